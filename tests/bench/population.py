"""Stores of any size, and edits of them as they stand in an outbox: made in bulk, as what the runtime itself would have written."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from sqlalchemy import Table, insert

from partner_node.spec import SPEC as PARTNER
from shared_schema.contract.codec import Event, RecordChange
from shared_schema.contract.documents import Document
from shared_schema.contract.identifiers import deal_uid, make_uid
from shared_schema.contract.registers import Dot, Register, Sibling, Side, Stamp
from shared_schema.crm.database import Database
from shared_schema.crm.migrations import migrate
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.shared_records import SharedRecord, write_row
from shared_schema.crm.tables import deals, partnerships, shared_records, users
from shared_schema.sync import outbox
from shared_schema.sync.station import NodeSpec
from shared_schema.sync.tables import outbox as outbox_rows
from tests.hand_made import make_event
from vendor_node.spec import SPEC as VENDOR

PARTNERSHIP = "bench"
BORN_MS = 1_790_000_000_000
WRITER, VENDOR_WRITER = "p-00000000000be4c4", "v-00000000000be4c4"
CHUNK = 5_000
SPECS: dict[Side, NodeSpec] = {"partner": PARTNER, "vendor": VENDOR}
Row = dict[str, Any]


def registration_uid(number: int) -> str:
    """The same on both sides, and random enough for the digest's buckets."""
    return make_uid(BORN_MS + number, Random(number).getrandbits(74))


def register(writer: str, counter: int, value: Any) -> Register:
    return Register({writer: counter}, (Sibling(Dot(writer, counter), Stamp(BORN_MS + counter, 0), None, value),))


def make_records(number: int, *, decided: bool = True, of: str = PARTNERSHIP) -> tuple[SharedRecord, SharedRecord]:
    """One registration and its deal: active, or not submitted yet, so that nothing of it is the vendor's."""
    uid, count = registration_uid(number), number * 10
    registration = {"initiated_by": register(WRITER, count + 1, "partner")}
    if decided:
        registration |= {
            "submission": register(WRITER, count + 2, {"at": BORN_MS, "round": 1}),
            "decision": register(VENDOR_WRITER, count + 1, {"decision": "approved", "at": BORN_MS, "round": 1}),
            "rep": register(VENDOR_WRITER, count + 2, {"person": registration_uid(0), "name": "Rita", "email": "rita@vendor.example"}),
        }
    deal = {
        "name": register(WRITER, count + 3, f"Deal number {number}"),
        "amount": register(WRITER, count + 4, {"amount": str(1_000 + number), "currency": "EUR"}),
        "next_step": register(WRITER, count + 5, "Call them"),
    }
    return (
        SharedRecord(of, uid, "registration", None, uid, "partner", Document.of(registration)),
        SharedRecord(of, deal_uid(uid), "deal", uid, uid, "partner", Document.of(deal)),
    )


def shared_deal_row(number: int, of: str) -> Row:
    uid = registration_uid(number)
    told = {"partnership": of, "uid": uid, "registration": uid, "deal_id": number, "status": "active", "initiated_by": "partner"}
    return told | {"rep_person": registration_uid(0), "left_here": False, "side": "partner", "state": "alive", "created_ms": BORN_MS}


def deal_row(number: int) -> Row:
    row = {"id": number, "name": f"Deal number {number}", "amount": str(1_000 + number), "currency": "EUR", "next_step": "Call them"}
    counts = {"number_of_deal_registrations": 1, "number_of_active_deal_registrations": 1, "is_active_shared_deal": True}
    return row | counts | {"properties": "{}", "created_ms": BORN_MS}


async def open_store(side: Side, url: str, known: Sequence[str] = (PARTNERSHIP,)) -> Database:
    """A migrated store with one user and the partnerships."""
    database = Database(url)
    await migrate(database, SPECS[side].migrations)
    async with database.transaction() as tx:
        person = {"uid": registration_uid(0), "name": "Rita", "email": f"rita@{side}.example", "role": "rep", "active": True}
        await tx.execute(insert(users).values(person))
        told = {"own_name": "Here", "peer_name": "There", "status": "active", "terms": "{}", "broker": "here", "created_ms": BORN_MS}
        await tx.execute(insert(partnerships), [{"id": each, **told} for each in known])
    return database


async def populate(database: Database, first: int, last: int, *, decided: bool = True, of: str = PARTNERSHIP) -> None:
    """Deals `first` to `last` of the store: two CRM rows and two shared records each."""
    for start in range(first, last + 1, CHUNK):
        numbers = range(start, min(start + CHUNK, last + 1))
        records = [write_row(record) for number in numbers for record in make_records(number, decided=decided, of=of)]
        async with database.transaction() as tx:
            for table, rows in rows_of(numbers, records, of):
                await tx.execute(insert(table), rows)


def rows_of(numbers: range, records: list[Row], of: str) -> Iterator[tuple[Table, list[Row]]]:
    yield deals, [deal_row(number) for number in numbers]
    yield shared_records, records
    yield shared_deals, [shared_deal_row(number, of) for number in numbers]


def make_edits(count: int, stored: int, *, each_once: bool = False) -> list[Event]:
    """Edits of the partner's over all the deals, the next step and the amount in turn; later ones of a deal replace earlier ones. At
    random, or `each_once`: no deal again before all the others, so that a batch holds as many deals whatever the size of the store."""
    random, edits = Random(count * 7 + stored), []
    order = random.sample(range(1, stored + 1), stored) if each_once else []
    for place in range(count):
        number = order[place % stored] if each_once else random.randint(1, stored)
        counter = stored * 10 + 100 + place
        field, value = ("next_step", f"Step {place}") if place % 2 else ("amount", {"amount": str(place), "currency": "EUR"})
        uid = registration_uid(number)
        change = RecordChange(deal_uid(uid), "deal", uid, uid, "partner", {field: register(WRITER, counter, value)})
        stamp = Stamp(BORN_MS + 10_000_000 + place, 0)
        edits.append(make_event(make_uid(stamp.physical, place), "deal.changed", (PARTNERSHIP, "partner"), change, stamp))
    return edits


async def queue_edits(database: Database, edits: list[Event]) -> None:
    """Into the partner's outbox, as if it had been offline."""
    for start in range(0, len(edits), CHUNK):
        rows = [outbox.make_row(event, BORN_MS) for event in edits[start : start + CHUNK]]
        async with database.transaction() as tx:
            await tx.execute(insert(outbox_rows), rows)
