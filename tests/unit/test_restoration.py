"""What a store that went back makes of what it refused before it knew."""

from pathlib import Path

import pytest
from sqlalchemy import insert, select

from partner_node.spec import SPEC
from shared_schema.contract.codec import HEADER_CONTROL
from shared_schema.contract.refusal import AHEAD
from shared_schema.contract.topics import record_topic
from shared_schema.crm.tables import property_history
from shared_schema.sync import restoration
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.restoration import take_back
from shared_schema.sync.restorer import Restorer
from shared_schema.sync.station import Station
from shared_schema.sync.tables import refusals
from shared_schema.sync.transport import BrokerUnavailable, Producer
from tests.bench.population import PARTNERSHIP, open_store
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

HOUR_MS = 3_600_000


async def test_what_was_refused_before_the_sign_was_seen_is_taken_back_also_when_the_clock_jumped_by_an_hour(tmp_path: Path) -> None:
    """A forgery of another day is still one, and so is what was refused for another reason."""
    station = Station(SPEC, await open_store("partner", f"sqlite:///{tmp_path}/partner.db"), SystemClock())
    now_ms = station.clock.now_ms()
    ages = {"a minute ago": 60_000, "amid a jump": HOUR_MS, "another day": 24 * HOUR_MS}
    ahead = [(event, AHEAD[0], now_ms - age_ms) for event, age_ms in ages.items()]
    async with station.working() as work:
        for event, reason, at_ms in [*ahead, ("not writable", "not_writable", now_ms)]:
            row = {"partnership": PARTNERSHIP, "uid": event, "field": "name", "event": event, "reason": reason, "at_ms": at_ms}
            await work.tx.execute(insert(refusals).values(row))
    async with station.working() as work:
        told = await take_back(work, PARTNERSHIP, now_ms)
        left = set((await work.tx.execute(select(refusals.c.event))).scalars())
    await station.database.close()
    outcomes = {(each.event, each.outcome) for event in told for each in event.data.outcomes}
    assert outcomes == {("a minute ago", "applied"), ("amid a jump", "applied")}
    assert left == {"another day", "not writable"}


async def test_what_came_back_is_taken_back_however_long_ago_it_was_refused(tmp_path: Path) -> None:
    """An operator may say three hours, or a day, after the alarm that it was none; what did not come back may have been forged."""
    station = Station(SPEC, await open_store("partner", f"sqlite:///{tmp_path}/partner.db"), SystemClock())
    now_ms = station.clock.now_ms()
    refused = {"partnership": PARTNERSHIP, "reason": AHEAD[0], "at_ms": now_ms - 24 * HOUR_MS}
    written = {"partnership": PARTNERSHIP, "physical": 1, "logical": 0, "counter": 1, "value": '"v"', "event": "e", "field": "name"}
    sources = {"came back": ("peer", now_ms), "before": ("peer", now_ms - 1), "saved here": ("local", now_ms)}
    async with station.working() as work:
        for uid, (source, at_ms) in sources.items():
            await work.tx.execute(insert(refusals).values(**refused, uid=uid, field="name", event=uid))
            await work.tx.execute(insert(property_history).values(**written, uid=uid, incarnation=f"p-{uid}", source=source, at_ms=at_ms))
        for uid, field in (("came back", "amount"), ("nowhere", "")):
            await work.tx.execute(insert(refusals).values(**refused, uid=uid, field=field, event=f"{uid} {field}"))
    async with station.working() as work:
        told = await take_back(work, PARTNERSHIP, now_ms)
    await station.database.close()
    assert [(each.event, each.uid, each.field) for event in told for each in event.data.outcomes] == [("came back", "came back", "name")]


class ShutBroker(MemoryBroker):
    async def open_producer(self) -> Producer:
        raise BrokerUnavailable("this vendor's broker is away")


async def test_a_broker_that_is_away_keeps_no_other_partnership_from_its_restoration(tmp_path: Path) -> None:
    database, cluster = await open_store("partner", f"sqlite:///{tmp_path}/partner.db", ["away", "here", "not-served"]), MemoryCluster()
    station = Station(SPEC, database, SystemClock())
    for each in ("away", "here", "not-served"):
        cluster.create_topic(record_topic(each, "partner"))
    brokers = {"away": ShutBroker(cluster), "here": MemoryBroker(cluster)}
    async with database.transaction() as tx:
        await restoration.start(tx, station.incarnation, "a test")
    with pytest.raises(BrokerUnavailable, match="this vendor's broker"):
        await Restorer(station, brokers.__getitem__, brokers.keys()).turn()
    logs = {each: cluster.logs[record_topic(each, "partner")].records for each in ("here", "not-served")}
    told = {each: [dict(record.headers) for record in records] for each, records in logs.items()}
    assert told == {"here": [{HEADER_CONTROL: b"sync.restore"}], "not-served": []}
    await database.close()
