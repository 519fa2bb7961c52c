"""A stream with everything wrong in it: each record is refused or parked with its reason, its sender is told, and the stream goes on."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import select, update

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH, HEADER_SEQUENCE, encode_control, name_schema
from shared_schema.contract.envelope import DATASCHEMA, EVENT_BYTES_MAX, Restore
from shared_schema.contract.topics import record_topic
from shared_schema.crm.deals import load_deal
from shared_schema.crm.tables import shared_records
from shared_schema.sync import refusals, stops
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_shared
from shared_schema.sync.limits import Limits
from shared_schema.sync.relay import deliver
from shared_schema.sync.status import read_status
from shared_schema.sync.tables import parked, peer_outcomes, statements
from shared_schema.sync.transport import Record
from tests.contract.golden import SAMPLES
from tests.integration.pair import Pair, open_pair, until

EPOCH = b"feedfacefeedface"
NOBODY = "01998f3e-0000-7000-8000-00000000dead"
SENDER = "p-00000000000f0e5e"
CHANGED = next(json.loads(sample.value) for sample in SAMPLES if sample.type == "deal.changed")


class Bad(NamedTuple):
    """A record, and the reason that it is parked for."""

    reason: str
    value: bytes | None
    headers: dict[str, bytes] | None = None


@pytest.fixture
async def pair(database_url: str, kafka_address: str, tmp_path: Path) -> AsyncIterator[Pair]:
    """Two nodes that share one active deal; its id is 1 on both sides."""
    brokers = KafkaBroker(kafka_address), KafkaBroker(kafka_address)
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), brokers) as opened:
        await opened.begin_sharing()
        await opened.settle()
        yield opened


def alter(pair: Pair, **attributes: Any) -> bytes:
    """The golden edit, as if it came from this partnership, with some attributes changed."""
    return json.dumps(CHANGED | {"partnership": pair.partnership} | attributes).encode()


def make_bad_records(pair: Pair) -> list[Bad]:
    record = CHANGED["data"]["records"][0]
    good = alter(pair)
    return [
        Bad("malformed", b"not JSON at all"),
        Bad("malformed", b""),
        Bad("malformed", None),
        Bad("malformed", b"\xff\xfe\x00" + good),
        Bad("malformed", good.replace(b"fax", b"f\xc3\x28x") if b"fax" in good else good[:-40] + b"\xc3\x28" + good[-40:]),
        Bad("malformed", good[: len(good) // 2]),
        Bad("malformed", b"[" * 100_000),
        Bad("malformed", alter(pair, stamp="now")),
        Bad("malformed", alter(pair, id="../../etc/passwd")),
        Bad("malformed", alter(pair, data={"records": [record | {"uid": "17"}]})),
        Bad("malformed", alter(pair, data={"records": [record | {"fields": []}]})),
        Bad("malformed", good, {}),
        Bad("malformed", good, {HEADER_EPOCH: b"not an epoch", HEADER_SEQUENCE: b"1"}),
        Bad("malformed", good, {HEADER_EPOCH: EPOCH, HEADER_SEQUENCE: "٣".encode()}),
        Bad("malformed", b"{}", {HEADER_CONTROL: b"sync.acknowledged"}),
        Bad("malformed", b"{}", {HEADER_CONTROL: b"sync.format-the-disk"}),
        Bad("malformed", b'{"partnership": "x", "sent_ms": "soon", "epochs": 5}', {HEADER_CONTROL: b"sync.heartbeat"}),
        Bad("newer_major", alter(pair, dataschema="urn:dealbridge:event:2.0", data="of tomorrow")),
        Bad("wrong_partnership", alter(pair, partnership="somebody-else")),
        Bad("oversized", alter(pair, data={"records": [], "padding": "x" * EVENT_BYTES_MAX})),
    ]


class Stream:
    """The partner's topic as a forger writes to it, numbered under an epoch of its own."""

    def __init__(self, pair: Pair) -> None:
        self.broker = pair.partner.broker
        self.topic = record_topic(pair.partnership, "partner")
        self.count = 0

    async def put(self, value: bytes | None, headers: dict[str, bytes] | None = None) -> None:
        if headers is None:
            self.count += 1
            headers = {HEADER_EPOCH: EPOCH, HEADER_SEQUENCE: str(self.count).encode()}
        producer = await self.broker.open_producer()
        try:
            await deliver(await producer.send(self.topic, [Record(b"key", value, tuple(headers.items()))]))
        finally:
            await producer.close()


async def check_goes_on(pair: Pair) -> None:
    """An honest edit of each side arrives at the other."""
    await pair.partner.do(save_shared, 1, {"name": "after all that"})
    await pair.vendor.do(save_shared, 1, {"next_step": "still here"})
    await pair.settle()
    for side in (pair.partner, pair.vendor):
        deal = await side.read(load_deal, 1)
        assert (deal["name"], deal["next_step"]) == ("after all that", "still here")


async def test_what_can_not_be_read_is_parked_whole_with_its_reason(pair: Pair) -> None:
    stream, records = Stream(pair), make_bad_records(pair)
    for each in records:
        await stream.put(each.value, each.headers)

    async def all_parked() -> bool:
        return len(await pair.vendor.rows(select(parked.c.id))) >= len(records)

    await until(all_parked)
    rows = await pair.vendor.rows(select(parked).order_by(parked.c.record_offset))
    assert [(row.reason, row.payload or b"") for row in rows] == [(each.reason, each.value or b"") for each in records]
    assert all(row.detail for row in rows)
    await check_goes_on(pair)


async def test_a_flood_stops_the_stream_and_loses_nothing(pair: Pair) -> None:
    """What came before and behind the flood is applied, the one at once, the other when an admin resumes."""
    await pair.vendor.stop()
    pair.vendor.start(Limits(parked_max=4, parked_per_minute=100))
    stream = Stream(pair)
    await pair.partner.do(save_shared, 1, {"name": "before the flood"})
    for _ in range(7):
        await stream.put(b"not JSON at all")

    async def stopped() -> bool:
        (row,) = await pair.vendor.read(read_status, 0)
        return row["stopped"] is not None

    await until(stopped)
    assert len(await pair.vendor.rows(select(parked.c.id))) == 4
    await pair.partner.do(save_shared, 1, {"name": "behind the flood"})
    assert (await pair.vendor.read(load_deal, 1))["name"] in ("Globex roll-out", "before the flood")
    await pair.vendor.do(stops.resume, pair.partnership)
    await check_goes_on(pair)
    assert len(await pair.vendor.rows(select(parked.c.id))) == 7
    (row,) = await pair.vendor.read(read_status, 0)
    assert row["stopped"] is None


async def deal_record(pair: Pair, **fields: Any) -> dict[str, Any]:
    """The shared deal's record as an event names it, with forged fields."""
    (row,) = await pair.vendor.rows(select(shared_records).where(shared_records.c.kind == "deal"))
    names = ("uid", "kind", "parent", "registration", "side")
    return {name: getattr(row, name) for name in names} | {"fields": fields}


def register(value: Any, counter: int = 1, **context: int) -> dict[str, Any]:
    sibling = {"dot": [SENDER, counter], "stamp": [1_790_000_000_000, 0], "actor": None, "value": value}
    return {"context": {SENDER: counter} | {name.replace("_", "-"): count for name, count in context.items()}, "siblings": [sibling]}


async def test_forgeries_are_refused_field_by_field_and_the_sender_is_told(pair: Pair) -> None:
    """A context of a billion of ours, somebody else's field, a child of another kind's parent: nothing of them is kept, the rest is."""
    ours = pair.vendor.station.incarnation.name.replace("-", "_")
    record = await deal_record(
        pair,
        name=register("forged", **{ours: 10**9}),
        vendor_stage=register({"pipeline": "Sales", "stage": "Won"}, 2),
        next_step=register("honest", 3),
    )
    stranger = record | {"uid": NOBODY, "kind": "comment", "parent": record["uid"], "fields": {"body": register("?", 4)}}
    impostor = record | {"kind": "quote", "fields": {"title": register("?", 5)}}
    event = "01998f50-0000-7000-8000-0000000000aa"
    await Stream(pair).put(alter(pair, id=event, registration=record["registration"], data={"records": [record, stranger, impostor]}))

    async def told() -> bool:
        return len(await pair.partner.rows(select(peer_outcomes.c.reason))) >= 4

    await until(told)
    outcomes = await pair.partner.rows(select(peer_outcomes).where(peer_outcomes.c.event == event))
    assert {(each.field, each.outcome, each.reason) for each in outcomes} >= {
        ("name", "refused", "own_context_ahead"),
        ("vendor_stage", "refused", "not_writable"),
    }
    assert {(each.outcome, each.reason) for each in outcomes if each.uid == NOBODY} == {("refused", "wrong_parent")}
    assert ("refused", "wrong_identity") in {(each.outcome, each.reason) for each in outcomes}
    deal = await pair.vendor.read(load_deal, 1)
    assert (deal["name"], deal["next_step"]) == ("Globex roll-out", "honest")
    await pair.vendor.do(save_shared, 1, {"name": "after the forgery"})
    await pair.settle()
    assert (await pair.partner.read(load_deal, 1))["name"] == "after the forgery"


async def put_change(pair: Pair, stream: Stream, count: int, record: dict[str, Any]) -> None:
    event = f"01998f50-0000-7000-8000-000000001{count:03x}"
    await stream.put(alter(pair, id=event, registration=record["registration"], data={"records": [record]}))


async def refused_fields(pair: Pair) -> dict[str, str]:
    return {row["field"]: row["reason"] for row in await pair.vendor.read(refusals.list_refused)}


async def test_whoever_floods_a_field_takes_nobodys_voice(pair: Pair) -> None:
    """Sixty-five values, each of an incarnation of its own that had seen no other: the vendor's next edit is sent all the same."""
    stream = Stream(pair)
    for count in range(65):
        name, value = f"p-{count:016x}", register(f"forged {count}")
        flood = {"context": {name: 1}, "siblings": [{**value["siblings"][0], "dot": [name, 1]}]}
        await put_change(pair, stream, count, await deal_record(pair, name=flood))

    await put_change(pair, stream, 65, await deal_record(pair, next_step=register("the last")))

    async def taken() -> bool:
        return bool((await pair.vendor.read(load_deal, 1))["next_step"] == "the last")

    await until(taken)
    assert (await refused_fields(pair))["name"] == "too_many_siblings"
    await pair.vendor.do(save_shared, 1, {"name": "the vendor's own"})

    async def there() -> bool:
        return bool((await pair.partner.read(load_deal, 1))["name"] == "the vendor's own")

    await until(there)  # at once, or when its own topic has told the partner's store what it lacks
    await check_goes_on(pair)


async def test_the_registered_domain_stays_what_it_was(pair: Pair) -> None:
    (row,) = await pair.vendor.rows(select(shared_records).where(shared_records.c.kind == "registration"))
    own = {each: getattr(row, each) for each in ("uid", "kind", "parent", "registration", "side")}
    forged = register("other.example") | {"context": json.loads(row.document)["domain"]["context"] | {SENDER: 1}}
    await put_change(pair, Stream(pair), 1, own | {"fields": {"domain": forged, "pain": register("said better", 2)}})

    async def refused() -> bool:
        return await refused_fields(pair) == {"domain": "written_once"}

    await until(refused)
    (after,) = await pair.vendor.rows(select(shared_records.c.document).where(shared_records.c.uid == row.uid))
    assert json.loads(after.document)["domain"] == json.loads(row.document)["domain"]
    await check_goes_on(pair)


async def test_a_record_too_large_to_be_stated_is_not_let_in_and_the_node_states_what_it_has(pair: Pair) -> None:
    """What the peer may write is bounded by value and by record; and it asks for all states, as after a restore."""
    stream = Stream(pair)
    fields = {"alpha": "x" * 600_000, "beta": "x" * 250_000, "gamma": "y" * 250_000}
    for count, (name, value) in enumerate(fields.items()):
        await put_change(pair, stream, count, await deal_record(pair, **{name: register(value, count + 1)}))

    async def refused() -> bool:
        return await refused_fields(pair) == {"alpha": "value_too_large", "gamma": "record_full"}

    await until(refused)
    ask = Restore(partnership=pair.partnership, sent_ms=1, request=NOBODY)
    await stream.put(encode_control(ask), {HEADER_CONTROL: ask.type.encode()})

    async def stated() -> bool:
        return [row.done for row in await pair.vendor.rows(select(statements.c.done))] == [True]

    await until(stated)
    (row,) = await pair.vendor.rows(select(shared_records.c.document).where(shared_records.c.kind == "deal"))
    assert {"alpha", "beta", "gamma"} & json.loads(row.document).keys() == {"beta"}
    await check_goes_on(pair)


async def test_what_a_newer_minor_version_adds_is_kept_and_shown_to_nobody(pair: Pair) -> None:
    colour = register({"shade": "of tomorrow"})
    record = await deal_record(pair, colour=colour, amount=register({"amount": "many", "currency": "€"}, 2))
    stream = Stream(pair)
    await stream.put(alter(pair, type="deal.levitated", dataschema="urn:dealbridge:event:1.9", mood="good", data={"records": [record]}))
    await check_goes_on(pair)
    (row,) = await pair.vendor.rows(select(shared_records.c.document).where(shared_records.c.kind == "deal"))
    assert json.loads(row.document)["colour"] == colour
    assert (await pair.vendor.read(load_deal, 1))["amount"] is None
    assert await pair.vendor.rows(select(parked.c.id)) == []


async def test_what_a_newer_version_said_is_read_by_the_node_that_starts_after_an_upgrade(pair: Pair) -> None:
    record = await deal_record(pair, next_step=register("said by tomorrow"))
    await Stream(pair).put(alter(pair, dataschema="urn:dealbridge:event:2.0", data={"records": [record]}))

    async def waits() -> bool:
        return bool(await pair.vendor.rows(select(parked.c.id).where(parked.c.waits_for == "urn:dealbridge:event:2")))

    async def is_read() -> bool:
        return (await pair.vendor.read(load_deal, 1))["next_step"] == "said by tomorrow"

    await until(waits)
    await pair.vendor.stop()
    known = {"waits_for": name_schema(DATASCHEMA), "payload": alter(pair, data={"records": [record]})}
    async with pair.vendor.station.working() as work:  # as if this were the version that it waits for
        await work.tx.execute(update(parked).values(known))
    pair.vendor.start()
    await until(is_read)
    assert await pair.vendor.rows(select(parked.c.id)) == []


async def test_a_child_of_an_unknown_parent_waits_and_is_applied_when_the_parent_comes(pair: Pair) -> None:
    deal = await deal_record(pair)
    registration = deal["registration"]
    note = deal | {
        "uid": "01998f3e-0000-7000-8000-000000000001",
        "kind": "note",
        "parent": registration,
        "fields": {"body": register("note")},
    }
    comment = deal | {"uid": NOBODY, "kind": "comment", "parent": note["uid"], "fields": {"body": register("comment", 2)}}
    stream = Stream(pair)
    await stream.put(alter(pair, id="01998f50-0000-7000-8000-0000000000ab", registration=registration, data={"records": [comment]}))

    async def waits() -> bool:
        return bool(await pair.vendor.rows(select(parked.c.id).where(parked.c.waits_for == note["uid"])))

    await until(waits)
    await check_goes_on(pair)
    await stream.put(alter(pair, id="01998f50-0000-7000-8000-0000000000ac", registration=registration, data={"records": [note]}))

    async def released() -> bool:
        return not await pair.vendor.rows(select(parked.c.id))

    await until(released)
    kinds = await pair.vendor.rows(select(shared_records.c.kind).where(shared_records.c.uid.in_([note["uid"], NOBODY])))
    assert {row.kind for row in kinds} == {"note", "comment"}
