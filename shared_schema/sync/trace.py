"""One event's whole life: what this store remembers of it, and what both directions' topics still say. Each step has the side on whose
clock its time was taken. Nothing is recorded for this: it is read from what is there anyway.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import decode_event
from shared_schema.contract.registers import Side, side_of
from shared_schema.contract.topics import other
from shared_schema.crm.database import Database
from shared_schema.crm.problems import NotFound
from shared_schema.crm.tables import property_history, shared_records
from shared_schema.sync import topic_trace
from shared_schema.sync.tables import erasures, outbox, owed_states, parked, peer_outcomes, peers, refusals
from shared_schema.sync.transport import Broker, BrokerError

Row = dict[str, Any]
# What is said of an event, in the order in which it can happen: clocks of two sides do not tell.
ORDER = (
    *("committed", "held", "folded", "published", "at the broker"),
    *("applied", "erased", "parked", "refused", "answered", "outcome heard", "acknowledged"),
)


class Step(NamedTuple):
    """`side` is where it happened, on whose clock `at_ms` (UTC) is; `source` is where it is known from: the store here, or a topic."""

    what: str
    side: Side
    at_ms: int | None
    detail: str
    source: str


class Found(NamedTuple):
    """What the store knows: of which partnership, registration and side the event is, and its steps."""

    partnership: str
    registration: str | None
    type: str | None
    maker: Side
    steps: list[Step]


async def trace(database: Database, here: Side, event: str, find_broker: Callable[[str], Broker] | None = None) -> Row:
    """The life of one event; with `find_broker` also from the topics, as far back as the broker keeps them. Raises NotFound where the
    store knows nothing of it."""
    async with database.reading() as connection:
        found = await read_store(connection, here, event)
        skew_ms = await read_skew(connection, found.partnership)
    steps = list(found.steps)
    notes: list[str] = []
    if find_broker is not None:
        search = topic_trace.Search(found.partnership, found.maker, event, skew_ms if found.maker == here else -skew_ms)
        try:
            told, notes = await topic_trace.search(find_broker(found.partnership), search)
            steps += [Step(*each, "topic") for each in told]
        except BrokerError as error:
            notes = [f"the topics can not be read now: {error}"]
    return present(found, event, here, steps, notes)


def present(found: Found, event: str, here: Side, steps: list[Step], notes: list[str]) -> Row:
    """In the order in which things happen; what both the store and the topic know is told once."""
    known = {(each.what, each.side) for each in steps if each.source == "store"}
    told = [each for each in steps if each.source == "store" or each.what != "committed" or (each.what, each.side) not in known]
    told.sort(key=lambda each: (ORDER.index(each.what), each.at_ms or 0))
    return {
        "event": event,
        "partnership": found.partnership,
        "registration": found.registration,
        "type": found.type or next((each.detail for each in steps if (each.what, each.source) == ("committed", "topic")), None),
        "made_by": found.maker,
        "asked_at": here,
        "state": name_state(found, here, told),
        "steps": [each._asdict() for each in told],
        "notes": notes,
    }


def name_state(found: Found, here: Side, steps: list[Step]) -> str:
    """Where the event is now, in a word. A row that has left the outbox was acknowledged, or taken back before it had gone: only the topics
    can tell which."""
    said = {each.what for each in steps}
    if found.maker != here:
        return next((word for word in ("parked", "refused", "applied", "erased") if word in said), "not here yet")
    if "waits" not in {each.detail for each in steps}:
        return "acknowledged" if "acknowledged" in said else "owed as a whole state" if "folded" in said else "no longer waits here"
    return "held" if "held" in said else "sent" if "at the broker" in said else "pending"


async def read_skew(connection: AsyncConnection, partnership: str) -> int:
    """By how much the peer's clock is ahead of ours, ms; 0 before it was heard."""
    return (await connection.execute(select(peers.c.skew_ms).where(peers.c.partnership == partnership))).scalar_one_or_none() or 0


async def read_store(connection: AsyncConnection, here: Side, event: str) -> Found:
    """What is in the outbox, the histories, parking, the refusals and the peer's outcomes."""
    found = [
        *await read_outbox(connection, here, event),
        *await read_history(connection, here, event),
        *await read_trouble(connection, here, event),
    ]
    if not found:
        raise NotFound("event", event)
    first = found[0]
    named = [each for each in found if each.registration] or [first]
    types = [each.type for each in found if each.type]
    steps = [step for each in found for step in each.steps]
    return Found(first.partnership, named[0].registration, types[0] if types else None, first.maker, steps)


async def read_outbox(connection: AsyncConnection, here: Side, event: str) -> list[Found]:
    """Our own event that is on its way, or held; and our answers to the peer's that are."""
    found = []
    row = (await connection.execute(select(outbox).where(outbox.c.event == event))).mappings().one_or_none()
    if row is not None:
        steps = [Step("committed", here, row["created_ms"], "waits", "store")]
        if row["held"]:
            steps.append(Step("held", here, None, f"by the {row['held']}, for a person's word", "store"))
        if row["epoch"]:
            steps.append(Step("at the broker", here, row["published_ms"], f"number {row['sequence']} of epoch {row['epoch']}", "store"))
        found.append(Found(row["partnership"], row["registration"], decode_event(row["payload"].encode()).type, here, steps))
    answers = select(outbox).where(outbox.c.answers == event)
    for answer in (await connection.execute(answers)).mappings():
        said = f"{describe_outcomes(answer['payload'])}; the maker has yet to hear it"
        step = Step("answered", here, answer["created_ms"], said, "store")
        found.append(Found(answer["partnership"], answer["registration"], None, other(here), [step]))
    return found


def describe_outcomes(payload: str) -> str:
    outcomes = decode_event(payload.encode()).data.outcomes
    return "; ".join(dict.fromkeys(describe_outcome(each.outcome, each.field, each.reason) for each in outcomes))


def describe_outcome(outcome: str, field: str | None, reason: str) -> str:
    return f"{outcome}{f' {field}' if field else ''} ({reason})" if reason else outcome


async def read_history(connection: AsyncConnection, here: Side, event: str) -> list[Found]:
    """The event's writes, ours or the peer's. There is no index on it: every write would pay for a question that is rarely asked."""
    history = property_history
    same = (shared_records.c.partnership == history.c.partnership) & (shared_records.c.uid == history.c.uid)
    names = ("partnership", "uid", "field", "source", "incarnation", "physical", "at_ms")
    columns = (*(history.c[name] for name in names), shared_records.c.kind, shared_records.c.registration)
    statement = select(*columns).select_from(history.join(shared_records, same))
    rows = (await connection.execute(statement.where(history.c.event == event).order_by(history.c.id))).all()
    if not rows:
        return []
    first, fields = rows[0], ", ".join(dict.fromkeys(f"{row.kind}.{row.field}" for row in rows))
    registration = next((row.registration for row in rows if row.registration), None)
    if first.source == "local":
        steps = [Step("committed", here, first.at_ms, fields, "store")]
        owed = (owed_states.c.partnership == first.partnership, owed_states.c.uid.in_({row.uid for row in rows}))
        if (await connection.execute(select(owed_states.c.uid).where(*owed).limit(1))).one_or_none():
            steps.append(Step("folded", here, None, "the peer is owed its record's whole state", "store"))
        return [Found(first.partnership, registration, None, here, steps)]
    steps = [Step("applied", here, first.at_ms, fields, "store")]
    maker = other(here)
    own = [row.physical for row in rows if side_of(row.incarnation) == maker]
    if own:
        steps.insert(0, Step("committed", maker, max(own), "by its hybrid clock", "store"))
    return [Found(first.partnership, registration, None, maker, steps)]


async def read_trouble(connection: AsyncConnection, here: Side, event: str) -> list[Found]:
    """What did not simply apply, here or there; and erasures, which have no history."""
    found = []
    for row in (await connection.execute(select(parked).where(parked.c.event == event))).mappings():
        step = Step("parked", here, row["at_ms"], f"{row['reason']}: {row['detail'].splitlines()[0][:200]}", "store")
        found.append(Found(row["partnership"], None, None, other(here), [step]))
    for row in (await connection.execute(select(refusals).where(refusals.c.event == event))).mappings():
        step = Step("refused", here, row["at_ms"], f"{row['field'] or 'the record'}: {row['reason']}", "store")
        found.append(Found(row["partnership"], None, None, other(here), [step]))
    for row in (await connection.execute(select(peer_outcomes).where(peer_outcomes.c.event == event))).mappings():
        step = Step("outcome heard", here, row["at_ms"], describe_outcome(row["outcome"], row["field"], row["reason"]), "store")
        found.append(Found(row["partnership"], None, None, here, [step]))
    for row in (await connection.execute(select(erasures).where(erasures.c.event == event))).mappings():
        maker = here if row["origin"] == "here" else other(here)
        step = Step("erased", here, row["at_ms"], f"{row['kind']} {row['fields']}".strip(), "store")
        found.append(Found(row["partnership"], row["registration"], "record.erased", maker, [step]))
    return found
