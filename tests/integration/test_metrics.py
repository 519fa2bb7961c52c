"""What the metrics say of two nodes over a real broker: lag by direction and kind, what waits and how long, and who has no rep."""

from pathlib import Path

from prometheus_client import REGISTRY
from sqlalchemy import insert, select

from shared_schema.crm.tables import property_history
from shared_schema.sync import gauges, metrics, notes, partnerships
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_shared
from shared_schema.sync.status import read_status
from shared_schema.sync.tables import peer_outcomes, refusals
from tests.integration.pair import Pair, Side, open_pair, until
from vendor_node.fallback_queue import measure_queue


def read(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def note_status(side: Side) -> None:
    metrics.note_status(await side.read(read_status, side.station.clock.now_ms()))


async def test_lag_and_backlog_are_told_by_direction_kind_and_age(database_url: str, tmp_path: Path, kafka_address: str) -> None:
    brokers = KafkaBroker(kafka_address), KafkaBroker(kafka_address)
    try:
        async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), brokers) as pair:
            await pair.begin_sharing()
            await pair.settle()
            name = pair.partnership
            edits = 3
            for number in range(edits):
                await pair.vendor.do(save_shared, 1, {"next_step": f"Call {number}"})
            await pair.vendor.do(notes.add_note, 1, "<p>Hello</p>")
            await pair.settle()
            for direction, kind, count in (("to_partner", "deal", edits), ("to_partner", "note", 1), ("to_vendor", "deal", 1)):
                labels = {"partnership": name, "direction": direction, "kind": kind}
                for metric in ("dealbridge_one_way_lag_seconds", "dealbridge_round_trip_lag_seconds"):
                    assert read(f"{metric}_count", **labels) == count, (metric, labels)
            await check_refusals(pair)
            await check_gauges(pair)
    finally:
        for broker in brokers:
            await broker.stop()


async def check_refusals(pair: Pair) -> None:
    """What was refused, on either side, is told until somebody writes the field anew."""
    name, vendor = pair.partnership, pair.vendor
    written = select(property_history).where(property_history.c.field == "next_step").order_by(property_history.c.id.desc()).limit(1)
    [last] = await vendor.rows(written)
    place, at_ms = {"partnership": name, "uid": last.uid, "field": "next_step", "event": last.event}, last.at_ms
    async with vendor.station.database.transaction() as tx:
        await tx.execute(insert(refusals).values(**place, reason="not_writable", at_ms=at_ms))
        await tx.execute(insert(peer_outcomes).values(**place, outcome="refused", reason="not_writable", at_ms=at_ms))
    for expected in (1, 0):
        await note_status(vendor)
        assert read("dealbridge_refused_fields", partnership=name) == read("dealbridge_peer_refused_fields", partnership=name) == expected
        if expected:
            await vendor.do(save_shared, 1, {"next_step": "Something else"})
    await pair.settle()


async def check_gauges(pair: Pair) -> None:
    """The peer is away: what waits for it here, and for how long; then behind its topic."""
    name, vendor = pair.partnership, pair.vendor
    await pair.partner.stop()
    await note_status(vendor)
    assert read("dealbridge_unacknowledged_oldest_age_seconds", partnership=name) == 0
    await vendor.do(save_shared, 1, {"next_step": "Wait"})

    async def published() -> bool:
        return not (await vendor.read(read_status, vendor.station.clock.now_ms()))[0]["backlog"]

    await until(published)
    await note_status(vendor)
    assert read("dealbridge_outbox_backlog_rows", partnership=name) == read("dealbridge_outbox_oldest_age_seconds", partnership=name) == 0
    assert read("dealbridge_unacknowledged_rows", partnership=name) == 1
    assert (read("dealbridge_unacknowledged_oldest_age_seconds", partnership=name) or 0) > 0
    await gauges.measure_consumer(pair.partner.station, lambda _: pair.partner.broker)
    assert (read("dealbridge_consumer_lag_records", partnership=name) or 0) >= 1
    await vendor.do(partnerships.change_status, name, "suspended")
    await note_status(vendor)
    assert read("dealbridge_unacknowledged_rows", partnership=name) == 1, "it is kept"
    ages = ("unacknowledged_oldest", "outbox_oldest", "peer_last_seen")
    assert [read(f"dealbridge_{age}_age_seconds", partnership=name) for age in ages] == [0, 0, 0], "and nobody is called for it"
    await gauges.measure_store(vendor.station.database)
    assert (read("dealbridge_store_size_bytes") or 0) > 10_000
    await gauges.measure_store(pair.partner.station.database)
    assert 0 < (read("dealbridge_disk_free_bytes", place="store") or 0) < (read("dealbridge_disk_size_bytes", place="store") or 0)
    await measure_queue(vendor.station)
    assert read("dealbridge_unassigned_registrations", partnership=name) == 1  # this vendor has no reps
