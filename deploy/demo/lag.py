"""The demo's measure of lag: edits on one side until they are applied on the other, against the bare broker's produce to consume."""

import asyncio
import time
from collections.abc import Sequence

import httpx

from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.transport import Record

EDITS = 100
PAUSE_S = 0.01


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def edit_and_measure(partner: httpx.Client, vendor: httpx.Client, shared_deal_id: int, peer_id: int) -> list[float]:
    """Edit one field again and again; per edit the ms from its store here to its store there. Both clocks are this machine's."""
    for number in range(EDITS):
        body = {"values": {"next_step": f"Call number {number + 1}"}}
        partner.patch(f"/api/shared-deals/{shared_deal_id}", json=body).raise_for_status()
        time.sleep(PAUSE_S)
    wait_for_text(vendor, peer_id, f"Call number {EDITS}")
    sent, arrived = (read_arrivals(client, id) for client, id in ((partner, shared_deal_id), (vendor, peer_id)))
    return [float(arrived[dot] - sent[dot]) for dot in arrived if dot in sent]


def wait_for_text(client: httpx.Client, shared_deal_id: int, text: str) -> None:
    while client.get(f"/api/shared-deals/{shared_deal_id}").json()["deal"]["fields"].get("next_step", {}).get("value") != text:
        time.sleep(0.05)


def read_arrivals(client: httpx.Client, shared_deal_id: int) -> dict[str, int]:
    """When each edit was stored here, by its dot."""
    entries = client.get(f"/api/shared-deals/{shared_deal_id}/audit").json()["entries"]
    return {each["dot"]: each["arrived_ms"] for each in entries if each["field"] == "next_step" and "Call number" in each["value"]}


async def measure_broker(address: str) -> list[float]:
    """Bare produce to consume, ms, at the same pace."""
    broker, topic = KafkaBroker(address), "dealbridge.demo-lag.from-partner"
    await broker.start()
    lags: list[float] = []
    try:
        await broker.create_topics([topic])
        reader, producer = await broker.open_reader(topic, 0), await broker.open_producer()

        async def receive() -> None:
            while len(lags) < EDITS:
                for each in await reader.fetch(100, 500):
                    lags.append((time.perf_counter_ns() - int(each.value or b"0")) / 1e6)

        receiving = asyncio.create_task(receive())
        for _ in range(EDITS):
            await (await producer.send(topic, [Record(None, b"%d" % time.perf_counter_ns(), ())]))
            await asyncio.sleep(PAUSE_S)
        await receiving
    finally:
        await broker.stop()
    return lags
