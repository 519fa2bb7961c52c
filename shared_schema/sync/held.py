"""What the brake holds, and a person's word about it. *Release* lets go what is held now, and nothing that comes. *Drop* takes outgoing
deletions back as writes; of incoming ones the sender is answered with the records' state. States that came while something of a record
was held were put aside, and may say more than what is let go: so the sides are compared, and repaired, after a release of incoming ones."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, delete, func, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Outcome, RecordChange, decode_event
from shared_schema.contract.documents import LIFE
from shared_schema.contract.life import ALIVE
from shared_schema.contract.policy import may_write
from shared_schema.contract.registers import Register
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import WrongState
from shared_schema.crm.shared_records import SharedRecord, load_records
from shared_schema.crm.tables import property_history
from shared_schema.sync import brake, dead_letters, outbox, parking, verification
from shared_schema.sync.answers import Answer, make_answers
from shared_schema.sync.apply import Desk, apply_events
from shared_schema.sync.arrivals import sort_arrivals
from shared_schema.sync.braking import BRAKE, DROPPED, UNSHARED, Direction
from shared_schema.sync.capture import Write
from shared_schema.sync.effects import follow
from shared_schema.sync.journal import note
from shared_schema.sync.owed_states import owe, owe_registrations
from shared_schema.sync.station import Author, Station, Work
from shared_schema.sync.tables import brake_acts, parked
from shared_schema.sync.tables import outbox as queue

Row = dict[str, Any]
Word = Literal["release", "drop"]
PAGE_MAX = 200
DIRECTIONS: tuple[Direction, ...] = ("out", "in")


def select_held(direction: Direction) -> Select[Any]:
    """What is held in a direction, one row per record, with where it waits."""
    table = queue if direction == "out" else parked
    joined = brake_acts.join(table, and_(table.c.event == brake_acts.c.event, holds(direction)))
    where = (brake_acts.c.direction == direction, brake_acts.c.passed.is_(False))
    return select(*brake_acts.c, table.c.id.label("place")).select_from(joined).where(*where)


def holds(direction: Direction) -> ColumnElement[bool]:
    """Of the outbox's rows or the parked ones, those that wait for a person's word about the brake."""
    return queue.c.held == BRAKE if direction == "out" else parked.c.reason == BRAKE


async def list_held(connection: AsyncConnection, partnership: str | None = None, after: int = 0, limit: int = PAGE_MAX) -> list[Row]:
    """A page of the records of which something is held, oldest first: direction, what would happen to it, since when."""
    held = union_all(*(select_held(direction) for direction in DIRECTIONS)).subquery()
    named = ("id", "partnership", "direction", "kind", "uid", "act", "registration", "event", "at_ms")
    statement = select(*(held.c[name] for name in named)).where(held.c.id > after).order_by(held.c.id).limit(min(limit, PAGE_MAX))
    if partnership is not None:
        statement = statement.where(held.c.partnership == partnership)
    return [dict(row) for row in (await connection.execute(statement)).mappings()]


async def count_held(connection: AsyncConnection, partnership: str | None = None) -> dict[str, dict[str, int]]:
    """By direction: how many records the brake holds something of, and how many events wait, with those that wait behind."""
    counts = {}
    for direction in DIRECTIONS:
        held, table = select_held(direction).subquery(), queue if direction == "out" else parked
        asked = [select(func.count()).select_from(held), select(func.count()).select_from(table).where(holds(direction))]
        if partnership is not None:
            asked = [each.where(of.c.partnership == partnership) for each, of in zip(asked, (held, table), strict=True)]
        records, events = [int((await connection.execute(each)).scalar_one()) for each in asked]
        counts[str(direction)] = {"records": records, "events": events}
    return counts


async def load_held(connection: AsyncConnection, partnership: str, direction: Direction) -> list[Row]:
    """All that is held in one direction; raises WrongState if nothing is."""
    statement = select_held(direction).where(brake_acts.c.partnership == partnership).order_by(brake_acts.c.id)
    rows = [dict(row) for row in (await connection.execute(statement)).mappings()]
    if not rows:
        raise WrongState(f"nothing of {partnership} is held in this direction", field="partnership", remedy="see `brake status`")
    return rows


async def decide(station: Station, author: Author, partnership: str, direction: Direction, word: Word) -> Row:
    """Act on a person's word about all that is held in one direction; what came of it, by count."""
    if direction == "out":
        async with station.working(author) as work:
            rows = await load_held(work.tx, partnership, direction)
            counts = await (release_outgoing(work, partnership) if word == "release" else drop_outgoing(work, partnership, rows))
            await note(work, partnership, None, f"brake {word}", f"outgoing: {describe(counts)}")
        return counts
    async with station.database.reading() as connection:
        rows = await load_held(connection, partnership, direction)
    return await decide_incoming(station, author, partnership, rows, word)


def describe(counts: Row) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


async def release_outgoing(work: Work, partnership: str) -> Row:
    """Let the held rows go, in their order."""
    held = (queue.c.partnership == partnership, queue.c.held == BRAKE)
    done = await work.tx.execute(update(queue).where(*held).values(held=None))
    work.woken.add(partnership)
    return {"released": done.rowcount}


async def drop_outgoing(work: Work, partnership: str, rows: Sequence[Row]) -> Row:
    """Take back what was not sent: deletions by a restore, unsharings as if they had not been. An erasure stays held: its content is gone
    here, and only a release can follow."""
    back = [row for row in rows if row["act"] != "erased"]
    records = await load_records(work.tx, partnership, {row["uid"] for row in back})
    people = await withdraw(work, partnership, [row["place"] for row in back], [row["event"] for row in back])
    await take_back_unsharings(work, partnership, [records[row["uid"]] for row in back if row["act"] == UNSHARED])
    await share_on(work, partnership, {row["uid"] for row in back if row["act"] == UNSHARED})
    await restore_all(work, partnership, [records[row["uid"]] for row in back if row["act"] == "deleted"])
    if people:
        work.woken.add("owed")
        await owe(work.tx, partnership, people)
    if len(back) == len(rows):
        await release_outgoing(work, partnership)  # what waited behind, in the order that it had
    return {"taken back": len(back), "still held": len(rows) - len(back)}


async def withdraw(work: Work, partnership: str, places: Sequence[int], events: Sequence[str]) -> set[str]:
    """Remove held rows with the writes that they carried from the history; the people who would have come along in them."""
    gone = await work.tx.execute(delete(queue).where(queue.c.id.in_(places), queue.c.epoch.is_(None)).returning(queue.c.payload))
    changes = [change for payload in gone.scalars().all() for change in decode_event(payload.encode()).data.records]
    people = {change.uid for change in changes if change.kind == "person"}
    of_them = (property_history.c.partnership == partnership, property_history.c.event.in_(events), property_history.c.uid.not_in(people))
    await work.tx.execute(delete(property_history).where(*of_them))
    return people


async def take_back_unsharings(work: Work, partnership: str, records: Sequence[SharedRecord]) -> None:
    """Nobody but this node has seen these flags: their registers are as if they had not been set."""
    for record in records:
        register = record.document.get(UNSHARED)
        ours = {each.dot.incarnation for each in register.siblings if each.dot.incarnation[0] == work.side[0]}
        kept = tuple(each for each in register.siblings if each.dot.incarnation not in ours)
        context = {name: counter for name, counter in register.context.items() if name not in ours}
        record.document.drop(UNSHARED)
        if kept:
            record.document.put(UNSHARED, Register(context, kept))
        record.touch(UNSHARED, register)
    await follow(work.tx, work.incarnation, work.due, await load_policy(work.tx, partnership), records)


async def share_on(work: Work, partnership: str, registrations: Collection[str]) -> None:
    """What was withdrawn of these registrations with their unsharing is owed, and what was ignored of the peer's meanwhile is asked for."""
    if registrations:
        await owe_registrations(work.tx, partnership, registrations)
        await verification.launch(work, partnership, repair=True)
        work.woken.add("owed")


async def restore_all(work: Work, partnership: str, records: Iterable[SharedRecord]) -> None:
    """A restore for each that is not alive again already."""
    for record in records:
        if record.state != "alive":
            type_ = f"{record.kind}.restored" if record.kind in ("deal", "note", "comment") else "record.restated"
            await work.capture(partnership, record.registration, type_, [Write(record.uid, LIFE, ALIVE)])


async def decide_incoming(station: Station, author: Author, partnership: str, rows: Sequence[Row], word: Word) -> Row:
    """Each parked event in a transaction of its own, oldest first, which also says who decided it and, of a release, asks for the
    verification that follows."""
    letters = sorted({row["place"] for row in rows})
    counts: dict[str, int] = {}
    for letter in letters:
        if word == "release":
            result = (await dead_letters.replay_one(station, author, letter, released=True)).result
        else:
            async with station.working(author) as work:
                result = await drop_incoming(work, partnership, letter)
                await note(work, partnership, None, "dead letter dropped", f"{letter}: {result}")
        counts[result] = counts.get(result, 0) + 1
    async with station.working(author) as work:
        await note(work, partnership, None, f"brake {word}", f"incoming: {describe(counts)}")
    return counts


async def drop_incoming(work: Work, partnership: str, letter: int) -> str:
    """Answer the sender with the records' state: as a restore where this side may write one, which brings it back there as well; else as
    the state that stays here, and the outcome *refused*."""
    row = await dead_letters.take(work, letter, held=True)
    if row is None:
        return "gone"
    (numbered,) = sort_arrivals(partnership, [parking.unpark(row)]).events
    event, policy = numbered.event, await load_policy(work.tx, partnership)
    records = await load_records(work.tx, partnership, {each.uid for each in event.data.records})
    deleted = [each for each in event.data.records if LIFE in each.fields and each.uid in records]
    work.woken.add(partnership)
    if deleted and all(may_restore(work, policy, records[each.uid]) for each in deleted) and not any(map(ends, event.data.records)):
        desk = Desk(work.incarnation, partnership, policy, work.due, None)
        await apply_events(work.tx, desk, sort_arrivals(partnership, [parking.unpark(row)]))
        if desk.to_park:  # for a parent of something else in it: when that comes it is judged anew
            await brake.forget(work.tx, partnership, event.id)
        await outbox.append(work.tx, make_answers(work.incarnation, partnership, desk.answers), work.now_ms)
        fresh = await load_records(work.tx, partnership, {each.uid for each in deleted})
        await restore_all(work, partnership, fresh.values())
        return "restored"
    told = Answer(event.id, (Outcome(event.id, "refused", DROPPED),), event.subject, event.registration)
    await outbox.append(work.tx, make_answers(work.incarnation, partnership, [told]), work.now_ms)
    await owe(work.tx, partnership, set(records))
    work.woken.add("owed")
    return "refused"


def may_restore(work: Work, policy: Any, record: SharedRecord) -> bool:
    return may_write(policy, record.kind, LIFE, work.side, record.side)


def ends(change: RecordChange) -> bool:
    """Whether it is an erasure or an unsharing, which nobody can answer with a write."""
    return change.erased or bool(change.erased_fields) or UNSHARED in change.fields
