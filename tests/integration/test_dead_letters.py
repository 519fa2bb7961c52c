"""What is parked is looked at, replayed and discarded; too much of it stops the stream, and a person resumes it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from shared_schema.contract import codec
from shared_schema.contract.codec import HEADER_EPOCH, HEADER_SEQUENCE
from shared_schema.crm.database import Database
from shared_schema.crm.problems import Invalid, NotFound, WrongState
from shared_schema.crm.tables import shared_records
from shared_schema.sync import apply, dead_letters, registrations, stops
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.consumer import Consumer
from shared_schema.sync.dead_letters import Replayed
from shared_schema.sync.limits import Limits
from shared_schema.sync.station import Author, Station
from shared_schema.sync.stops import StreamStopped
from shared_schema.sync.tables import inbound_positions, journal, outbound_epochs, outbox, parked, verifications
from shared_schema.sync.transport import Received
from shared_schema.sync.verification import REPAIRS_MAX
from tests.contract.golden import SAMPLES
from tests.tables import make_tables
from vendor_node.spec import SPEC

P = "initech-acme"
EPOCH = "feedfacefeedface"
ADMIN = Author(1, None, "Ann Admin", "admin")
PERSON = json.loads(next(sample.value for sample in SAMPLES if sample.type == "person.changed"))
EVENT = "01998f50-0000-7000-8000-0000000000%02x"
V2 = "urn:dealbridge:event:2"


class Inbox:
    """The vendor's end of one stream: events go in by hand."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.station = Station(SPEC, Database(url), SystemClock())
        self.consumer = Consumer(self.station.database, None, self.station.incarnation, P, SPEC.due)  # type: ignore[arg-type]  # no broker
        self.count = 0

    async def set_up(self) -> None:
        await make_tables(self.url)
        async with self.station.database.transaction() as tx:
            await tx.execute(insert(inbound_positions).values(topic=self.consumer.inbound, topic_id="t", next_offset=0))
            await tx.execute(insert(outbound_epochs).values(partnership=P, epoch=EPOCH, acknowledged=0, began_ms=0))

    async def put(self, *payloads: bytes) -> None:
        batch = [
            Received(self.consumer.inbound, self.count + n, 0, None, each, number(self.count + n + 1)) for n, each in enumerate(payloads)
        ]
        before, self.count = self.count, self.count + len(batch)
        await self.consumer.receive(batch, before)

    async def rows(self, statement: Any) -> list[Any]:
        async with self.station.database.reading() as connection:
            return list((await connection.execute(statement)).all())

    async def answers(self) -> list[tuple[str, str, str]]:
        """Every outcome that waits to be told: (event, outcome, reason)."""
        told = [json.loads(row.payload) for row in await self.rows(select(outbox.c.payload).order_by(outbox.c.id))]
        return [(each["event"], each["outcome"], each["reason"]) for event in told for each in event["data"].get("outcomes", ())]

    async def replay(self, *letters: int) -> list[Replayed]:
        return await dead_letters.replay(self.station, ADMIN, letters)


def number(sequence: int) -> tuple[tuple[str, bytes], ...]:
    return ((HEADER_EPOCH, EPOCH.encode()), (HEADER_SEQUENCE, str(sequence).encode()))


def person(count: int, **attributes: Any) -> bytes:
    """An event of the partner's about a person of its own."""
    record = PERSON["data"]["records"][0] | {"uid": f"01998f3e-0000-7000-8000-{count:012x}"}
    return json.dumps(PERSON | {"id": EVENT % count, "data": {"records": [record]}} | attributes).encode()


def newer(count: int) -> bytes:
    return person(count, dataschema="urn:dealbridge:event:2.0", data="of tomorrow")


@asynccontextmanager
async def open_inbox(database_url: str) -> AsyncIterator[Inbox]:
    made = Inbox(database_url)
    await made.set_up()
    yield made
    await made.station.database.close()


@pytest.fixture
async def inbox(database_url: str) -> AsyncIterator[Inbox]:
    async with open_inbox(database_url) as opened:
        yield opened


async def stumble_over(monkeypatch: pytest.MonkeyPatch, event: str) -> None:
    """A defect of ours that one event runs into."""
    real = apply.apply_event

    def trip(desk: Any, numbered: Any) -> None:
        if numbered.event.id == event:
            raise RuntimeError("a defect of ours")
        real(desk, numbered)

    monkeypatch.setattr(apply, "apply_event", trip)


async def test_a_poisonous_event_is_kept_whole_and_applied_once_the_defect_is_mended(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        await stumble_over(broken, EVENT % 2)
        await inbox.put(person(1), person(2), person(3))
        (letter,) = await inbox.rows(select(parked))
        assert (letter.reason, letter.event, letter.payload, letter.record_offset) == ("poison", EVENT % 2, person(2), 1)
        async with inbox.station.database.reading() as connection:
            shown = await dead_letters.load_dead(connection, letter.id)
        assert "a defect of ours" in shown["detail"] and [value for _, value in shown["headers"]] == [EPOCH, "2"]
        assert json.loads(shown["payload"])["id"] == EVENT % 2
        assert await inbox.replay(letter.id) == [Replayed(letter.id, "parked", "poison")]
        assert len(await inbox.rows(select(shared_records.c.uid))) == 2
    assert not await inbox.rows(select(verifications)), "what stays parked changes nothing"
    assert await inbox.replay(letter.id, letter.id) == [Replayed(letter.id, "applied", partnership=P), Replayed(letter.id, "gone")]
    assert [(row.partnership, row.phase, row.repairs) for row in await inbox.rows(select(verifications))] == [(P, "first", REPAIRS_MAX)]
    assert len(await inbox.rows(select(shared_records.c.uid))) == 3
    assert await inbox.answers() == [(EVENT % 2, "parked", "poison"), (EVENT % 2, "applied", "after all")]
    (line,) = await inbox.rows(select(journal))
    assert (line.what, line.actor) == ("dead letter replayed", "Ann Admin")


async def test_an_event_of_a_newer_version_is_told_parked_and_stays_until_this_node_can_read_it(inbox: Inbox) -> None:
    await inbox.put(newer(1))
    (letter,) = await inbox.rows(select(parked))
    assert await inbox.answers() == [(EVENT % 1, "parked", "newer_major")]
    assert await inbox.replay(letter.id) == [Replayed(letter.id, "parked", "newer_major")]
    assert await inbox.answers() == [(EVENT % 1, "parked", "newer_major")]


async def test_nobody_answers_an_outcome_that_can_not_be_read(inbox: Inbox) -> None:
    """Two nodes of different versions would answer each other for ever."""
    await inbox.put(person(1, type="outcome.reported", dataschema="urn:dealbridge:event:2.0"))
    assert len(await inbox.rows(select(parked.c.id))) == 1
    assert await inbox.answers() == []


async def test_what_a_newer_version_said_leaves_parking_by_itself_once_this_node_can_read_it(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.consumer.limits = Limits(parked_max=1, parked_per_minute=1)
    await inbox.put(newer(1), person(2, dataschema="urn:dealbridge:event:2.3"), person(3, dataschema="urn:dealbridge:event:3.0"))
    assert [row.waits_for for row in await inbox.rows(select(parked.c.waits_for).order_by(parked.c.id))] == [*[V2] * 2, V2[:-1] + "3"]
    await dead_letters.replay_ready(inbox.station, P)
    assert await inbox.rows(select(shared_records)) == []
    monkeypatch.setattr(codec, "VERSION", "2.0")
    monkeypatch.setattr(dead_letters, "DATASCHEMA", V2 + ".0")
    await dead_letters.replay_ready(inbox.station, P)
    assert [row.uid[-1] for row in await inbox.rows(select(shared_records.c.uid))] == ["2"]
    left = await inbox.rows(select(parked.c.event, parked.c.reason).order_by(parked.c.id))
    assert [tuple(row) for row in left] == [(EVENT % 1, "malformed"), (EVENT % 3, "newer_major")]
    assert (EVENT % 2, "applied", "after all") in await inbox.answers()


async def test_so_many_that_only_wait_stop_the_stream_until_it_is_resumed(inbox: Inbox) -> None:
    inbox.consumer.limits = Limits(parked_max=1, parked_per_minute=1, waiting_max=2)
    await inbox.put(newer(1), newer(2))
    with pytest.raises(StreamStopped, match="2 records wait in parking"):
        await inbox.put(newer(3))
    async with inbox.station.database.transaction() as tx:
        await stops.stop(tx, P, "too much", 1)
    async with inbox.station.working(ADMIN) as work:
        await stops.resume(work, P)
    inbox.count = 2
    await inbox.put(newer(3))
    assert len(await inbox.rows(select(parked.c.id))) == 3


async def test_a_discard_needs_a_reason_and_is_told_to_the_sender(inbox: Inbox) -> None:
    await inbox.put(newer(1), b"not JSON at all")
    first, second = (row.id for row in await inbox.rows(select(parked.c.id).order_by(parked.c.id)))
    with pytest.raises(Invalid, match="reason"):
        async with inbox.station.working(ADMIN) as work:
            await dead_letters.discard(work, first, "  ")
    for letter in (first, second):
        async with inbox.station.working(ADMIN) as work:
            await dead_letters.discard(work, letter, "a test of theirs")
    with pytest.raises(NotFound):
        async with inbox.station.working(ADMIN) as work:
            await dead_letters.discard(work, first, "again")
    assert await inbox.rows(select(parked)) == []
    assert await inbox.answers() == [(EVENT % 1, "parked", "newer_major"), (EVENT % 1, "refused", "discarded: a test of theirs")]
    assert [row.actor for row in await inbox.rows(select(journal))] == ["Ann Admin", "Ann Admin"]


async def test_letters_are_found_by_reason_and_by_partnership(inbox: Inbox) -> None:
    await inbox.put(newer(1), b"{", newer(2))
    async with inbox.station.database.reading() as connection:
        assert len(await dead_letters.find_all(connection)) == 3
        assert len(await dead_letters.find_all(connection, P, "newer_major")) == 2
        assert await dead_letters.find_all(connection, "another") == []
        assert [row["reason"] for row in await dead_letters.list_dead(connection, reason="malformed")] == ["malformed"]


async def position(inbox: Inbox) -> int:
    (row,) = await inbox.rows(select(inbound_positions.c.next_offset))
    return int(row.next_offset)


@pytest.mark.parametrize("limits", [Limits(parked_max=3, parked_per_minute=100), Limits(parked_max=100, parked_per_minute=3)])
async def test_too_much_that_is_parked_stops_the_stream_where_it_is_until_it_is_resumed(inbox: Inbox, limits: Limits) -> None:
    inbox.consumer.limits = limits
    bad = [b"bad %d" % n for n in range(8)]
    with pytest.raises(StreamStopped, match="sync resume") as stopped:
        await inbox.put(person(1), *bad[:3], person(2), *bad[3:], person(3))
    assert stopped.value.replies, "what came before is acknowledged"
    assert (await position(inbox), len(await inbox.rows(select(parked.c.id)))) == (5, 3)
    async with inbox.station.database.transaction() as tx:
        await stops.stop(tx, P, str(stopped.value), 1)
    async with inbox.station.database.reading() as connection:
        with pytest.raises(StreamStopped):
            await stops.check_running(connection, P)
    async with inbox.station.working(ADMIN) as work:
        await stops.resume(work, P)
    with pytest.raises(WrongState, match="not stopped"):
        async with inbox.station.working(ADMIN) as work:
            await stops.resume(work, P)
    async with inbox.station.database.reading() as connection:
        await stops.check_running(connection, P)
    inbox.count = 5
    with pytest.raises(StreamStopped):
        await inbox.put(*bad[3:], person(3))
    assert (await position(inbox), len(await inbox.rows(select(parked.c.id)))) == (8, 6)
    assert len(await inbox.rows(select(shared_records.c.uid))) == 2


async def test_children_that_wait_for_their_parents_stop_nothing(inbox: Inbox) -> None:
    inbox.consumer.limits = Limits(parked_max=1, parked_per_minute=1)
    record = PERSON["data"]["records"][0]
    for count in range(4):
        orphan = record | {"uid": EVENT % (0x40 + count), "kind": "comment", "parent": EVENT % 0x99}
        await inbox.put(person(count, data={"records": [orphan]}))
    assert len(await inbox.rows(select(parked.c.id))) == 4


@pytest.mark.parametrize("ending", ["arrives", "arrives at once", "is made here"])
async def test_what_waits_for_a_parent_is_ignored_once_its_deal_is_unshared(inbox: Inbox, ending: str) -> None:
    shared, unshared = (next(each.value for each in SAMPLES if each.type == type_) for type_ in ("deal.shared", "deal.unshared"))
    registration = json.loads(shared)["registration"]
    record = PERSON["data"]["records"][0] | {"kind": "comment", "parent": EVENT % 0x99, "registration": registration}
    child = person(7, registration=registration, data={"records": [record | {"uid": EVENT % 0x47}]})
    other_child = person(8, data={"records": [record | {"uid": EVENT % 0x48, "registration": None}]})
    await inbox.put(shared, other_child, *([child, unshared] if ending == "arrives at once" else [child]))
    if ending == "arrives":
        assert len(await inbox.rows(select(parked.c.id))) == 2
        await inbox.put(unshared)
    if ending == "is made here":
        async with inbox.station.working(ADMIN) as work:
            await registrations.unshare(work, 1)
    assert [row.event for row in await inbox.rows(select(parked.c.event))] == [EVENT % 8], "the other deal's goes on waiting"
    assert (EVENT % 7, "ignored", "unshared") in await inbox.answers()


async def test_a_store_on_disk_keeps_the_stop_across_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/vendor.db"
    first = Inbox(url)
    await first.set_up()
    async with first.station.database.transaction() as tx:
        await stops.stop(tx, P, "too much", 1)
    await first.station.database.close()
    again = Inbox(url)
    again.consumer.looked = again.station.database.losses  # it has looked at its own topic
    with pytest.raises(StreamStopped, match="too much"):
        await again.consumer.follow()
    await again.station.database.close()
