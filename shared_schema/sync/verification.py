"""Verify and repair: digests are compared on demand or by schedule; what differs at two looks, with both hashes unmoved and nothing on
its way, is drift. Repair makes both sides owe each other the states; states merge like events, so it is safe to repeat.

The steps of one verification stand in its row; messages may be lost or come twice, then the look is taken again under another name.
"""

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.digests import differing, pack_sums, unpack_sums
from shared_schema.contract.documents import bucket_of
from shared_schema.contract.envelope import Control, Digest, Hashes, Inspect, Repair, Shown, ShownRecord
from shared_schema.crm.digests import Hashed, read_hashes, read_sums
from shared_schema.crm.problems import WrongState
from shared_schema.crm.rows import insert_rows, upsert
from shared_schema.crm.shared_records import SharedRecord, load_records
from shared_schema.sync import drift, owed_states
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.journal import note
from shared_schema.sync.log_lines import ids
from shared_schema.sync.restate import cut
from shared_schema.sync.station import MACHINE, Work
from shared_schema.sync.tables import journal, outbox, peers, verifications

Row = dict[str, Any]
ANSWER_MS = 10_000
HEARD_MS = 45_000
PAUSE_MS = 1_000
PAUSES_MAX = 30
PART_RECORDS = 8_000
PARTS_MAX = 5
LOOKS_MAX = 20
REPAIR_RECORDS = 10_000
REPAIRS_MAX = 3  # that leave nothing untold: states, or what asks for them, may be lost on the way

log = logging.getLogger(__name__)


async def request(work: Work, partnership: str, *, repair: bool) -> None:
    """A person asks for a verification. Raises nothing if the peer is away: then it waits for it."""
    await launch(work, partnership, repair=repair)
    await note(work, partnership, None, "verification asked for", "with repair" if repair else "without repair")


async def launch(work: Work, partnership: str, *, repair: bool) -> None:
    """Begin one, of a person's word or as what follows from another; one that is under way begins anew."""
    await start(work.tx, partnership, work.now_ms, repair=repair)
    work.woken.add("verifications")


async def start(tx: AsyncConnection, partnership: str, now_ms: int, *, repair: bool) -> None:
    """Begin one. Repairs that one under way has still to do are not taken from it."""
    where = (verifications.c.partnership == partnership, verifications.c.phase != "done")
    under_way = (await tx.execute(select(verifications).where(*where).with_for_update())).mappings().one_or_none()
    repairs, repaired = (under_way["repairs"], under_way["repaired"]) if under_way else (0, 0)
    fresh: Row = {"phase": "first", "look": None, "part": 0, "looks": 0, "due_ms": now_ms, "asked_ms": 0}
    fresh |= {"repairs": REPAIRS_MAX if repair else repairs, "repaired": repaired, "began_ms": now_ms, "ended_ms": None, "busy": 0}
    await upsert(tx, verifications, [{"partnership": partnership, **fresh}], tuple(fresh))


async def ask(tx: AsyncConnection, incarnation: Incarnation, partnership: str) -> Digest | Inspect | None:
    """What to send now, if a look is due and the peer is there to answer. While states are owed to it, no look is worth taking."""
    now_ms = incarnation.clock.now_ms()
    heard = select(peers.c.heard_ms).where(peers.c.partnership == partnership).scalar_subquery()
    waited = or_(verifications.c.due_ms <= now_ms, verifications.c.due_ms > now_ms + PAUSE_MS * PAUSES_MAX)
    unanswered = or_(verifications.c.asked_ms <= now_ms - ANSWER_MS, verifications.c.asked_ms > now_ms)
    # A time that lies ahead of what this could have set was set before the clock went back.
    due = or_(and_(verifications.c.look.is_(None), waited), and_(verifications.c.look.is_not(None), unanswered))
    where = (verifications.c.partnership == partnership, verifications.c.phase != "done", due, heard > now_ms - HEARD_MS)
    if await owed_states.is_owing(tx, partnership):
        return None
    look = f"{incarnation.clock.random_bits(64):016x}"
    asked = update(verifications).where(*where).values(look=look, part=0, asked_ms=now_ms).returning(verifications.c.phase)
    phase = (await tx.execute(asked)).scalar_one_or_none()
    if phase is None:
        return None
    if phase == "detail":
        uids = await drift.find_undescribed(tx, partnership)
        return Inspect(partnership=partnership, sent_ms=now_ms, look=look, uids=uids)
    return Digest(partnership=partnership, sent_ms=now_ms, look=look, sums=pack_sums(await read_sums(tx, partnership)))


async def answer_digest(tx: AsyncConnection, incarnation: Incarnation, asked: Digest) -> list[Control]:
    """The hashes here of the buckets that differ, in parts; with very many the later buckets wait for another look."""
    ours = unpack_sums(pack_sums(await read_sums(tx, asked.partnership)))
    buckets = differing(ours, unpack_sums(asked.sums))
    found = await read_hashes(tx, asked.partnership, buckets) if buckets else []
    parts = cut_parts(buckets, found)
    busy = await find_busy(tx, asked.partnership)
    told = parts[:PARTS_MAX]
    return [
        Hashes(
            partnership=asked.partnership,
            sent_ms=incarnation.clock.now_ms(),
            look=asked.look,
            part=place,
            parts=len(told),
            complete=len(told) == len(parts),
            buckets=some,
            records=[(each.uid, each.hash, is_busy(busy, each)) for each in hashed],
        )
        for place, (some, hashed) in enumerate(told)
    ]


def cut_parts(buckets: Sequence[int], found: Sequence[Hashed]) -> list[tuple[list[int], list[Hashed]]]:
    """Buckets with their records, in messages of bounded size; at least one, so that agreement is answered too."""
    by_bucket: dict[int, list[Hashed]] = {bucket: [] for bucket in buckets}
    for each in found:
        by_bucket[bucket_of(each.uid)].append(each)
    parts: list[tuple[list[int], list[Hashed]]] = [([], [])]
    for bucket, records in by_bucket.items():
        if parts[-1][1] and len(parts[-1][1]) + len(records) > PART_RECORDS:
            parts.append(([], []))
        parts[-1][0].append(bucket)
        parts[-1][1].extend(records)
    return parts


async def find_busy(tx: AsyncConnection, partnership: str) -> set[str | None]:
    """The registrations with something on its way from here; None for what belongs to no registration, and so may hold anything."""
    if await owed_states.is_owing(tx, partnership):
        return {None}
    where = (outbox.c.partnership == partnership, outbox.c.answers.is_(None))
    return set((await tx.execute(select(outbox.c.registration).where(*where).distinct())).scalars())


def is_busy(busy: set[str | None], record: Hashed) -> bool:
    """People travel in other records' events, so they are busy with anything."""
    return None in busy or (bool(busy) if record.registration is None else record.registration in busy)


async def take_hashes(tx: AsyncConnection, incarnation: Incarnation, told: Hashes) -> list[Control]:
    """Compare one part of the peer's answer; after the last one the look is concluded. What is owed to the peer then."""
    row = await lock_look(tx, told)
    if row is None or row["phase"] == "detail":
        return []
    busy = await compare(tx, told, incarnation.clock.now_ms()) + (row["busy"] if told.part else 0)
    if told.part + 1 < told.parts:
        await change(tx, told.partnership, part=told.part + 1, busy=busy)
        return []
    if told.complete:
        await drift.forget_others(tx, told.partnership, told.look)
    return await conclude(tx, incarnation, {**row, "busy": busy}, told)


async def lock_look(tx: AsyncConnection, told: Hashes | Shown) -> Row | None:
    """The verification that this part answers, locked; None if it answers another look, or came twice."""
    statement = select(verifications).where(verifications.c.partnership == told.partnership).with_for_update()
    row = (await tx.execute(statement)).mappings().one_or_none()
    if row is None or row["look"] != told.look or row["part"] != told.part or row["phase"] == "done":
        return None
    return dict(row)


async def compare(tx: AsyncConnection, told: Hashes, now_ms: int) -> int:
    """Keep the records of these buckets that differ, with how often they were seen so; how many were busy and are left for later."""
    ours = await read_hashes(tx, told.partnership, told.buckets) if told.buckets else []
    unequal = drift.find_unequal(ours, [(uid, hash_) for uid, hash_, _ in told.records])
    busy_here, here = await find_busy(tx, told.partnership), {each.uid: each for each in ours}
    busy_there = {uid for uid, _, busy in told.records if busy}
    still = {
        uid: pair
        for uid, pair in unequal.items()
        if uid not in busy_there and not is_busy(busy_here, here.get(uid) or Hashed(uid, 0, None))
    }
    await drift.note_unequal(tx, told.partnership, still, told.look, now_ms)
    return len(unequal) - len(still)


async def conclude(tx: AsyncConnection, incarnation: Incarnation, row: Row, told: Hashes) -> list[Control]:
    """After a whole look: look again, repair, have the differences shown, or end."""
    partnership, now_ms = told.partnership, incarnation.clock.now_ms()
    looks = row["looks"] + 1
    unsure = await drift.count_unsure(tx, partnership)
    # What was told was mended meanwhile, and the rest has not been told yet.
    unseen = not told.complete and not await drift.find_drifted(tx, partnership, 1)
    due_ms = now_ms + PAUSE_MS * min(2 ** row["looks"], PAUSES_MAX)
    again = {"look": None, "looks": looks, "busy": row["busy"], "due_ms": due_ms}
    if (unsure or unseen or row["busy"]) and looks < LOOKS_MAX:
        await change(tx, partnership, phase="second", **again)
        return []
    uids = await drift.find_drifted(tx, partnership, REPAIR_RECORDS) if row["repairs"] else []
    if uids:
        await send_states(tx, partnership, uids, now_ms)
        more = not told.complete or len(uids) == REPAIR_RECORDS
        values = again | {"looks": 0, "repairs": row["repairs"] - (not more), "repaired": row["repaired"] + len(uids)}
        await change(tx, partnership, phase="first", **values | {"due_ms": now_ms + PAUSE_MS})
        return [Repair(partnership=partnership, sent_ms=now_ms, look=told.look, uids=uids)]
    if await drift.find_undescribed(tx, partnership):
        await change(tx, partnership, phase="detail", **again | {"due_ms": now_ms})
        return []
    await change(tx, partnership, phase="done", looks=looks, busy=row["busy"], ended_ms=now_ms)
    return []


async def send_states(tx: AsyncConnection, partnership: str, uids: Sequence[str], now_ms: int) -> None:
    """Owe the peer the states of what drifted, and say in the journal and the log that something had."""
    await owed_states.owe(tx, partnership, uids)
    await drift.forget(tx, partnership, uids)
    told = f"{len(uids):,} records differ between the sides; their states go both ways"
    row = {"partnership": partnership, "registration": None, "what": "repaired", "detail": told, "actor": MACHINE.name, "at_ms": now_ms}
    await insert_rows(tx, journal, [row])
    log.warning("%s", told, extra=ids(partnership))


async def change(tx: AsyncConnection, partnership: str, **values: Any) -> None:
    await tx.execute(update(verifications).where(verifications.c.partnership == partnership).values(values))


async def take_repair(tx: AsyncConnection, asked: Repair) -> None:
    """The peer is owed the states that it asks for, of the records that are here."""
    await owed_states.owe(tx, asked.partnership, asked.uids)


async def answer_inspection(tx: AsyncConnection, incarnation: Incarnation, asked: Inspect) -> list[Control]:
    """What the records that the peer asks for hold here, in messages of bounded size."""
    records = await load_records(tx, asked.partnership, asked.uids)
    parts: list[list[SharedRecord]] = list(cut(records.values())) or [[]]
    return [
        Shown(
            partnership=asked.partnership,
            sent_ms=incarnation.clock.now_ms(),
            look=asked.look,
            part=place,
            parts=len(parts),
            records=[ShownRecord(uid=each.uid, fields=drift.show(each.document)) for each in part],
        )
        for place, part in enumerate(parts)
    ]


async def take_shown(tx: AsyncConnection, incarnation: Incarnation, told: Shown) -> None:
    """Keep in which fields the records of this part differ; after the last one the verification ends."""
    row = await lock_look(tx, told)
    if row is None or row["phase"] != "detail":
        return
    ours = await load_records(tx, told.partnership, {each.uid for each in told.records})
    await drift.describe(tx, told.partnership, ours, told.records)
    if told.part + 1 < told.parts:
        await change(tx, told.partnership, part=told.part + 1)
    elif row["repairs"] and await drift.find_drifted(tx, told.partnership, 1):  # more of them differs than what was refused
        await change(tx, told.partnership, phase="second", look=None, due_ms=incarnation.clock.now_ms())
    else:
        await change(tx, told.partnership, phase="done", ended_ms=incarnation.clock.now_ms())


async def read_verification(connection: AsyncConnection, partnership: str, after: str = "", limit: int = drift.LISTED_MAX) -> Row:
    """How the last verification stands; how many records drifted, and a page of them by uid; how many more differ only in what is refused.
    Raises WrongState if there was none yet."""
    row = (await connection.execute(select(verifications).where(verifications.c.partnership == partnership))).mappings().one_or_none()
    if row is None:
        raise WrongState("nothing was verified yet", field="partnership", remedy="begin a verification first")
    heard = (await connection.execute(select(peers.c.heard_ms).where(peers.c.partnership == partnership))).scalar_one_or_none()
    named = ("partnership", "phase", "repaired", "busy", "began_ms", "ended_ms")
    counted = {"drifted": (await drift.count_drifts(connection)).get(partnership, 0)}
    counted["refused"] = len(await drift.find_refused(connection, partnership))
    told = {"peer_heard_ms": heard, "owed": (await owed_states.count_owed(connection)).get(partnership, 0)}
    return {name: row[name] for name in named} | told | counted | {"drift": await drift.list_drift(connection, partnership, after, limit)}
