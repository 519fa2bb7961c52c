"""The statistics as a process beside two nodes over a real Kafka: what they say is what was done, the same after their own death and the
broker's; and their death changes nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.demo.processes import NodeProcess
from deploy.kafka.embedded import EmbeddedKafka
from shared_schema.contract.topics import all_topics
from shared_schema.sync.broker import KafkaBroker
from tests.chaos.town import plant
from tests.integration.pair import DETAILS, until

EDITS = 7


async def by(owner: Executor, act: Callable[[], Any]) -> Any:
    """In the thread that owns the processes: they live no longer than that."""
    return await asyncio.get_running_loop().run_in_executor(owner, act)


class Scene:
    """Both nodes and the vendor's statistics as processes, a broker, and one deal that both share."""

    def __init__(self, kafka: EmbeddedKafka, nodes: dict[str, NodeProcess], tokens: dict[str, str], owner: Executor) -> None:
        self.kafka, self.nodes, self.tokens, self.owner = kafka, nodes, tokens, owner
        self.edits = 0

    async def ask(self, node: str, method: str, path: str, **body: Any) -> Any:
        side = "partner" if node == "partner" else "vendor"
        async with httpx.AsyncClient(base_url=self.nodes[node].address, timeout=30) as client:
            headers = {"Authorization": f"Bearer {self.tokens[side]}"}
            answer = await client.request(method, path, headers=headers, json=body or None)
        answer.raise_for_status()
        return answer.json() if "json" in answer.headers["content-type"] else answer.text

    async def share(self) -> None:
        values = {"company_id": 1, "deal": {"name": "Roll-out"}, "details": DETAILS}
        await self.ask("partner", "POST", "/api/shared-deals/from-company", **values)

        async def active() -> bool:
            return any(each["status"] == "active" for each in (await self.ask("vendor", "GET", "/api/shared-deals"))["results"])

        await until(active)
        await self.ask("vendor", "POST", "/api/shared-deals/1/notes", body="<p>Welcome</p>")

    async def edit(self, times: int) -> None:
        for _ in range(times):
            self.edits += 1
            await self.ask("partner", "PATCH", "/api/shared-deals/1", values={"next_step": f"Call {self.edits}"})
        await until(self.is_in_step)

    async def is_in_step(self) -> bool:
        stands = [each for node in ("partner", "vendor") for each in (await self.ask(node, "GET", "/api/status"))["results"]]
        waits = ("unacknowledged", "gaps", "reactions")
        return not any(each[name] for each in stands for name in waits)

    async def has_gauges(self) -> bool:
        """They are set anew every few seconds."""
        gauges = await self.ask("insights", "GET", "/metrics")
        return "dealbridge_insights_events_per_minute{" in gauges and 'direction="to_vendor",kind="deal",partnership=' in gauges

    async def figures(self) -> dict[str, Any]:
        """Once all of the edits are in them, and acknowledged."""
        found: dict[str, Any] = {}

        async def whole() -> bool:
            nonlocal found
            try:
                [found] = (await self.ask("insights", "GET", "/api/insights"))["partnerships"].values()
            except (httpx.HTTPError, ValueError):  # it has not caught up, or is reading anew
                return False
            arrived = sum(each["count"] for each in found["lag"] if (each["direction"], each["kind"]) == ("to_vendor", "deal"))
            return bool(found["edits"] == self.edits and arrived == self.edits + 1)

        await until(whole)
        return found


@pytest.fixture
def owner() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


@pytest.fixture
async def scene(tmp_path: Path, owner: Executor) -> AsyncIterator[Scene]:
    kafka, urls = EmbeddedKafka(tmp_path / "kafka"), {side: f"sqlite:///{tmp_path}/{side}.db" for side in ("partner", "vendor")}
    await by(owner, kafka.start)
    nodes = {
        "partner": NodeProcess("partner", urls["partner"], kafka.address, tmp_path),
        "vendor": NodeProcess("vendor", urls["vendor"], kafka.address, tmp_path),
        "insights": NodeProcess("vendor", urls["vendor"], kafka.address, tmp_path, "insights", "insights"),
    }
    nodes["insights"].settings["TMPDIR"] = str(tmp_path)  # a killed process leaves its temporary directory behind
    try:
        tokens, _ = await plant(urls, kafka.address)
        for node in nodes.values():
            await by(owner, node.start)
        yield Scene(kafka, nodes, tokens, owner)
    finally:
        for node in nodes.values():
            await by(owner, node.stop)
        await by(owner, kafka.stop)


async def test_figures_are_exact_after_the_statistics_and_the_broker_died_and_nothing_else_notices(scene: Scene) -> None:
    await scene.share()
    await scene.edit(EDITS)
    first = await scene.figures()
    assert first["events"]["deal.changed"]["count"] == EDITS and first["events"]["deal.shared"]["count"] == 1
    assert (first["registrations"], first["time_to_decision"]["total"], first["time_to_first_reply"]["total"]) == (1, 1, 1)
    assert first["busiest_deals"][0]["events"] > EDITS and first["edits_that_met_a_conflict"] == 0
    await until(scene.has_gauges)
    await by(scene.owner, scene.nodes["insights"].kill)
    await scene.edit(1)  # nobody waits for the statistics
    await by(scene.owner, scene.nodes["insights"].start)
    again = await scene.figures()
    assert again["events"]["deal.changed"]["count"] == EDITS + 1 and again["time_to_decision"] == first["time_to_decision"]
    await by(scene.owner, scene.kafka.kill)
    await asyncio.sleep(1)
    await by(scene.owner, scene.kafka.start)
    await until(scene.is_in_step)
    assert await scene.figures() == again
    await scene.edit(2)
    last = await scene.figures()
    assert last["events"]["deal.changed"]["count"] == EDITS + 3 and last["events"]["deal.shared"]["count"] == 1
    await check_topics(scene, last)


async def check_topics(scene: Scene, figures: dict[str, Any]) -> None:
    """The statistics have made no topic, and nobody without a token sees them."""
    assert figures
    [partnership] = (await scene.ask("insights", "GET", "/api/insights"))["partnerships"]
    broker = KafkaBroker(scene.kafka.address)
    listed = await broker.line.ask(lambda admin: admin.list_topics())
    await broker.stop()
    assert set(listed) - {"__consumer_offsets"} == set(all_topics(partnership))
    async with httpx.AsyncClient(base_url=scene.nodes["insights"].address) as client:
        assert (await client.get("/api/insights")).status_code == 401
