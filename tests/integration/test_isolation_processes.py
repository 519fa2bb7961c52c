"""Vendor and two partners as processes over a real Kafka: what a partner's process logs, measures and answers has nothing of the other."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.demo.processes import NodeProcess
from partner_node.spec import SPEC as PARTNER
from shared_schema.sync import partnerships
from tests.integration.pair import DETAILS, until
from tests.planting import add_admin, create_topics, open_station
from tests.postgres import EmbeddedPostgres
from vendor_node import reps
from vendor_node.spec import SPEC as VENDOR

WORDS = {"Acme": "aardvark", "Besta": "bumblebee"}
Reading = Callable[[], Awaitable[Any]]


async def plant(directory: Path, kafka: str, vendor_url: str) -> tuple[dict[str, NodeProcess], dict[str, str], dict[str, str]]:
    """Three migrated stores that are partners, and their nodes, not started; tokens and partnerships by name."""
    urls = {"Initech": vendor_url, **{name: f"sqlite:///{directory}/{name}.db" for name in WORDS}}
    nodes, tokens, names, bundles = {}, {}, {}, {}
    for name, url in urls.items():
        spec = VENDOR if name == "Initech" else PARTNER
        (directory / name).mkdir()
        nodes[name] = NodeProcess(spec.side, url, kafka, directory / name)
        nodes[name].settings["DEALBRIDGE_LOG_LEVEL"] = "debug"
        station = await open_station(spec, url)
        async with station.working() as work:
            tokens[name] = await add_admin(work, f"{name} admin")
            if name == "Initech":
                await reps.add_rep(work.tx, 1, {})
                for partner in WORDS:
                    bundles[partner] = await partnerships.invite(work, "Initech", partner, kafka)
                    names[partner] = bundles[partner]["partnership"]
            else:
                await partnerships.join(work, bundles[name])
        await station.database.close()
    await create_topics(kafka, *names.values())
    return nodes, tokens, names


class Client:
    """A program at one node."""

    def __init__(self, node: NodeProcess, token: str) -> None:
        self.http = httpx.AsyncClient(base_url=node.address, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, path, json=body)
        assert answer.status_code < 300, f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else None


async def register(client: Client, word: str) -> None:
    """A deal for the one customer, whose every text has the partner's own word."""
    company = await client.ask("POST", "/api/companies", {"name": "Globex", "domain": "globex.example"})
    details = {name: f"{value} {word}" for name, value in DETAILS.items()}
    body = {"company_id": company["id"], "deal": {"name": f"{word} deal", "next_step": f"{word} step"}, "details": details}
    await client.ask("POST", "/api/shared-deals/from-company", body)
    await client.ask("POST", "/api/shared-deals/1/notes", {"body": f"{word} note"})

    async def active() -> bool:
        return bool((await client.ask("GET", "/api/shared-deals/1"))["status"] == "active")

    await until(active)


async def work_together(clients: dict[str, Client]) -> list[dict[str, Any]]:
    """Both partners on one deal of the vendor's, with edits of all; the vendor's registrations."""
    for name, word in WORDS.items():
        await register(clients[name], word)
    vendor = clients["Initech"]
    listed = (await vendor.ask("GET", "/api/shared-deals"))["results"]
    await vendor.ask("POST", f"/api/deals/{listed[0]['deal_id']}/merge", {"deal_id": listed[1]["deal_id"]})
    for name, word in WORDS.items():
        await clients[name].ask("PATCH", "/api/deals/1", {"values": {"next_step": f"{word} again"}})
    await vendor.ask("PATCH", f"/api/deals/{listed[0]['deal_id']}", {"values": {"close_date": "2027-01-01"}})
    for client in clients.values():
        await until(quiet_at(client))
    return listed


def quiet_at(client: Client) -> Callable[[], Awaitable[bool]]:
    async def quiet() -> bool:
        return not any(each["unacknowledged"] or each["gaps"] for each in (await client.ask("GET", "/api/status"))["results"])

    return quiet


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
async def test_logs_metrics_and_answers_of_one_have_nothing_of_the_other(
    store: str, request: pytest.FixtureRequest, kafka_address: str, tmp_path: Path
) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    postgres: EmbeddedPostgres | None = request.getfixturevalue("postgres") if store == "postgresql" else None
    url = postgres.fresh_database() if postgres else f"sqlite:///{tmp_path}/Initech.db"
    nodes, tokens, names = await plant(tmp_path, kafka_address, url)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as owner:
        try:
            for node in nodes.values():
                await loop.run_in_executor(owner, node.start)
            clients = {name: Client(node, tokens[name]) for name, node in nodes.items()}
            listed = await work_together(clients)
            for name, other in (("Acme", "Besta"), ("Besta", "Acme")):
                uids = {each["uid"] for each in listed if each["partnership"] == names[other]}
                foreign = {WORDS[other], other, f"{other.lower()}.admin", names[other], *uids}
                await check_nothing_of(foreign, clients[name], nodes[name])
                assert names[name] in (await clients[name].http.get("/metrics")).text and nodes[name].log.stat().st_size > 1_000
            for client in clients.values():
                await client.http.aclose()
        finally:
            for node in nodes.values():
                await loop.run_in_executor(owner, node.stop)


async def check_nothing_of(foreign: set[str], client: Client, node: NodeProcess) -> None:
    """Nothing in the log, the metrics, and whatever the API lists or shows."""
    document = await client.ask("GET", "/openapi.json")
    paths = [path for path, item in document["paths"].items() if "get" in item]
    shown = {path: (await client.http.get(fill(path))).text for path in paths}
    assert len(shown) > 20
    places = shown | {"/metrics": (await client.http.get("/metrics")).text, "the log": node.log.read_text()}
    for place, text in places.items():
        inside = [each for each in foreign if each in text]
        assert not inside, f"{inside} in {place} of {node.side}"
    assert json.loads(shown["/api/shared-deals"])["results"]


def fill(path: str) -> str:
    """The first of everything."""
    while "{" in path:
        path = path[: path.index("{")] + "1" + path[path.index("}") + 1 :]
    return path
