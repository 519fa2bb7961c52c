"""Verify and repair: digests are compared on demand or by schedule; what differs at two looks, with both hashes unmoved and nothing on
its way, is drift. Repair sends the states both ways; states merge like events, so it is safe to repeat.

The steps of one verification stand in its row; messages may be lost or come twice, then the look is taken again under another name.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.digests import differing, pack_sums, unpack_sums
from shared_schema.contract.documents import bucket_of
from shared_schema.contract.envelope import Control, Digest, Hashes, Repair
from shared_schema.crm.digests import Hashed, read_hashes, read_sums
from shared_schema.crm.problems import WrongState
from shared_schema.crm.rows import Among, upsert
from shared_schema.crm.shared_records import load_records
from shared_schema.crm.tables import shared_records
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.restate import restate_records
from shared_schema.sync.station import Work
from shared_schema.sync.tables import drifts, outbox, peers, refusals, verifications

Row = dict[str, Any]
ANSWER_MS = 10_000
HEARD_MS = 20_000
PAUSE_MS = 1_000
PART_RECORDS = 8_000
PARTS_MAX = 5
LOOKS_MAX = 20
SURE = 2  # looks at which a difference has stood still
REPAIR_RECORDS = 10_000


async def request(work: Work, partnership: str, *, repair: bool) -> None:
    """Ask for a verification; one that is under way begins anew. Raises nothing if the peer is away: then it waits for it."""
    await start(work.tx, partnership, work.now_ms, repair=repair)
    work.woken.add("verifications")


async def start(tx: AsyncConnection, partnership: str, now_ms: int, *, repair: bool) -> None:
    fresh: Row = {"phase": "first", "look": None, "part": 0, "looks": 0, "repair": repair, "due_ms": now_ms, "asked_ms": 0}
    fresh |= {"began_ms": now_ms, "ended_ms": None, "repaired": 0, "busy": 0}
    await upsert(tx, verifications, [{"partnership": partnership, **fresh}], tuple(fresh))


async def ask(tx: AsyncConnection, incarnation: Incarnation, partnership: str) -> Digest | None:
    """The digest to send now, if a look is due and the peer is there to answer."""
    now_ms = incarnation.clock.now_ms()
    heard = select(peers.c.heard_ms).where(peers.c.partnership == partnership).scalar_subquery()
    waited = or_(verifications.c.due_ms <= now_ms, verifications.c.due_ms > now_ms + PAUSE_MS)
    unanswered = or_(verifications.c.asked_ms <= now_ms - ANSWER_MS, verifications.c.asked_ms > now_ms)
    # A time that lies ahead of what this could have set was set before the clock went back.
    due = or_(and_(verifications.c.look.is_(None), waited), and_(verifications.c.look.is_not(None), unanswered))
    where = (verifications.c.partnership == partnership, verifications.c.phase != "done", due, heard > now_ms - HEARD_MS)
    look = f"{incarnation.clock.random_bits(64):016x}"
    if not (await tx.execute(update(verifications).where(*where).values(look=look, part=0, asked_ms=now_ms))).rowcount:
        return None
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
    where = (outbox.c.partnership == partnership, outbox.c.answers.is_(None))
    return set((await tx.execute(select(outbox.c.registration).where(*where).distinct())).scalars())


def is_busy(busy: set[str | None], record: Hashed) -> bool:
    """People travel in other records' events, so they are busy with anything."""
    return None in busy or (bool(busy) if record.registration is None else record.registration in busy)


async def take_hashes(tx: AsyncConnection, incarnation: Incarnation, told: Hashes) -> list[Control]:
    """Compare one part of the peer's answer; after the last one the look is concluded. What is owed to the peer then."""
    statement = select(verifications).where(verifications.c.partnership == told.partnership).with_for_update()
    row = (await tx.execute(statement)).mappings().one_or_none()
    if row is None or row["look"] != told.look or row["part"] != told.part or row["phase"] == "done":
        return []
    now_ms = incarnation.clock.now_ms()
    busy = await compare(tx, told, now_ms) + (row["busy"] if told.part else 0)
    if told.part + 1 < told.parts:
        await change(tx, told.partnership, part=told.part + 1, busy=busy)
        return []
    if told.complete:
        await tx.execute(delete(drifts).where(drifts.c.partnership == told.partnership, drifts.c.look != told.look))
    return await conclude(tx, incarnation, {**row, "busy": busy}, told)


async def compare(tx: AsyncConnection, told: Hashes, now_ms: int) -> int:
    """Keep the records of these buckets that differ, with how often they were seen so; how many were busy and are left for later."""
    ours = {each.uid: each for each in await read_hashes(tx, told.partnership, told.buckets)} if told.buckets else {}
    theirs = {uid: (hash_, busy) for uid, hash_, busy in told.records}
    busy_here = await find_busy(tx, told.partnership)
    unequal = [uid for uid in {*ours, *theirs} if (ours[uid].hash if uid in ours else None) != theirs.get(uid, (None,))[0]]
    still = [uid for uid in unequal if not theirs.get(uid, (0, False))[1] and not is_busy(busy_here, ours.get(uid) or Hashed(uid, 0, None))]
    known = await load_drifts(tx, told.partnership, still)
    rows = []
    for uid in sorted(still):
        pair = {"ours": ours[uid].hash if uid in ours else None, "theirs": theirs[uid][0] if uid in theirs else None}
        before = known.get(uid)
        moved = before is None or (before["ours"], before["theirs"]) != (pair["ours"], pair["theirs"])
        looks = 1 if before is None or moved else before["looks"] + (before["look"] != told.look)
        since_ms = now_ms if before is None else before["since_ms"]
        rows.append({"partnership": told.partnership, "uid": uid, **pair, "look": told.look, "looks": looks, "since_ms": since_ms})
    await upsert(tx, drifts, rows, ("ours", "theirs", "look", "looks", "since_ms"))
    return len(unequal) - len(still)


async def load_drifts(tx: AsyncConnection, partnership: str, uids: Sequence[str]) -> dict[str, Row]:
    statement = select(drifts).where(drifts.c.partnership == partnership, Among(drifts.c.uid, "uids"))
    return {row["uid"]: dict(row) for row in (await tx.execute(statement, {"uids": sorted(uids)})).mappings()}


async def conclude(tx: AsyncConnection, incarnation: Incarnation, row: Row, told: Hashes) -> list[Control]:
    """After a whole look: look again, repair, or end."""
    partnership, now_ms = told.partnership, incarnation.clock.now_ms()
    looks = row["looks"] + 1
    unsure = await count_drift(tx, partnership, sure=False)
    again = {"look": None, "looks": looks, "busy": row["busy"], "due_ms": now_ms + PAUSE_MS}
    if (unsure or row["busy"]) and looks < LOOKS_MAX:
        await change(tx, partnership, phase="second", **again)
        return []
    uids = await find_repairable(tx, partnership) if row["repair"] else []
    if not uids:
        await change(tx, partnership, phase="done", looks=looks, busy=row["busy"], ended_ms=now_ms)
        return []
    await restate_records(tx, incarnation, list((await load_records(tx, partnership, uids)).values()))
    more = not told.complete or len(uids) == REPAIR_RECORDS
    await change(tx, partnership, phase="first", repair=more, repaired=row["repaired"] + len(uids), **again | {"looks": 0})
    return [Repair(partnership=partnership, sent_ms=now_ms, look=told.look, uids=uids)]


async def change(tx: AsyncConnection, partnership: str, **values: Any) -> None:
    await tx.execute(update(verifications).where(verifications.c.partnership == partnership).values(values))


async def find_repairable(tx: AsyncConnection, partnership: str) -> list[str]:
    """The records that drifted; not those of which this side refused something: sending them again would be refused again."""
    refused = select(refusals.c.uid).where(refusals.c.partnership == partnership)
    where = (drifts.c.partnership == partnership, drifts.c.looks >= SURE, drifts.c.uid.not_in(refused))
    return list((await tx.execute(select(drifts.c.uid).where(*where).order_by(drifts.c.uid).limit(REPAIR_RECORDS))).scalars())


async def count_drift(connection: AsyncConnection, partnership: str, *, sure: bool = True) -> int:
    seen = drifts.c.looks >= SURE if sure else drifts.c.looks < SURE
    return int((await connection.execute(select(func.count()).where(drifts.c.partnership == partnership, seen))).scalar_one())


async def send_states(tx: AsyncConnection, incarnation: Incarnation, asked: Repair) -> int:
    """Queue the states that the peer asks for, of the records that are here; how many."""
    records = list((await load_records(tx, asked.partnership, asked.uids)).values())
    await restate_records(tx, incarnation, records)
    return len(records)


async def read_verification(connection: AsyncConnection, partnership: str) -> Row:
    """How the last verification stands, and the drift that it found; raises WrongState if there was none yet."""
    row = (await connection.execute(select(verifications).where(verifications.c.partnership == partnership))).mappings().one_or_none()
    if row is None:
        raise WrongState("nothing was verified yet", field="partnership", remedy="begin a verification first")
    heard = (await connection.execute(select(peers.c.heard_ms).where(peers.c.partnership == partnership))).scalar_one_or_none()
    named = ("partnership", "phase", "repaired", "busy", "began_ms", "ended_ms")
    return {**{name: row[name] for name in named}, "peer_heard_ms": heard, "drift": await list_drift(connection, partnership)}


async def list_drift(connection: AsyncConnection, partnership: str, limit: int = 200) -> list[Row]:
    """The records that differ for sure: where they are, and since when that is known."""
    record = and_(shared_records.c.partnership == drifts.c.partnership, shared_records.c.uid == drifts.c.uid)
    columns = (drifts.c.uid, shared_records.c.kind, shared_records.c.registration, drifts.c.ours, drifts.c.theirs, drifts.c.since_ms)
    where = (drifts.c.partnership == partnership, drifts.c.looks >= SURE)
    statement = select(*columns).select_from(drifts.outerjoin(shared_records, record)).where(*where).order_by(drifts.c.uid).limit(limit)
    return [describe_drift(dict(row)) for row in (await connection.execute(statement)).mappings()]


def describe_drift(row: Row) -> Row:
    ours, theirs = row.pop("ours"), row.pop("theirs")
    return {**row, "where": "only there" if ours is None else "only here" if theirs is None else "on both sides, unequal"}
