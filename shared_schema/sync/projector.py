"""The projector: after an upgrade it brings columns up to fields that were stored before this version knew them.

Such a field was merged and kept, but no column showed it. The store says for which fields all of its records are projected; for those that
this version knows besides they are projected again, in pieces, and nobody is told of anything. It begins once no process of another version
syncs the store, because an older one goes on applying what it does not show; for the same reason an older one takes back, of what the store
says, the fields that it does not know.
"""

import asyncio
import json
import logging
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, String, bindparam, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.records import KINDS
from shared_schema.contract.registers import EMPTY
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.policies import load_policy
from shared_schema.crm.projection import project
from shared_schema.crm.rows import upsert
from shared_schema.crm.shared_records import SharedRecord, load_records
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import shared_records
from shared_schema.sync import metrics, shares
from shared_schema.sync.patience import keep_at
from shared_schema.sync.station import Station
from shared_schema.sync.tables import projections

POLL_S = 5.0
PAUSE_S = 0.05
PIECE_RECORDS = 500
KNOWN = frozenset(f"{kind}.{name}" for kind, known in KINDS.items() for name in known.fields)
VERSION = sha256(" ".join(sorted(KNOWN)).encode()).hexdigest()[:16]
ONLY = 1

log = logging.getLogger(__name__)


class Reached(NamedTuple):
    """All records are projected for `fields`; for those of `adding`, up to this uid of this partnership. A field is named kind.field."""

    fields: frozenset[str]
    adding: frozenset[str]
    partnership: str = ""
    uid: str = ""


SAID = select(*(projections.c[name] for name in Reached._fields)).where(projections.c.id == ONLY)
READ, LOCKED = Statement(SAID), Statement(SAID.with_for_update())
KEY = tuple_(shared_records.c.partnership, shared_records.c.uid)
AFTER = tuple_(bindparam("partnership", type_=String()), bindparam("uid", type_=String()))
COLUMNS = (shared_records.c.partnership, shared_records.c.uid, shared_records.c.kind, shared_records.c.registration)
NEXT = Statement(select(*COLUMNS).where(KEY > AFTER).order_by(*COLUMNS[:2]).limit(bindparam("most", type_=BigInteger())))


def plan(said: Reached | None, known: frozenset[str], alone: bool) -> Reached:
    """What the store is to say before the next piece. A store that says nothing yet has nothing that an older version stored. Whatever
    changes, its records are gone through from the first one on."""
    if said is None:
        return Reached(known, frozenset())
    fields = said.fields & known
    adding = known - fields if alone else frozenset()
    return said if (fields, adding) == (said.fields, said.adding) else Reached(fields, adding)


class Projector:
    """One per process; several take turns at the pieces."""

    def __init__(self, station: Station) -> None:
        self.station = station

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at("projection of new fields", self.turn, (DatabaseUnavailable,))

    async def turn(self) -> None:
        while await self.is_due():
            await self.project_piece()
            await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(POLL_S)

    async def is_due(self) -> bool:
        async with self.station.database.glancing() as connection:
            said = read_reached(await READ.fetch(connection, {}))
            planned = await self.plan(connection, said)
        return said != planned or bool(planned.adding)

    async def plan(self, connection: AsyncConnection, said: Reached | None) -> Reached:
        return plan(said, KNOWN, await shares.is_alone(connection, VERSION, self.station.clock.now_ms()))

    async def project_piece(self) -> None:
        """The next records in the order of their keys, with how far that is, in one transaction."""
        async with self.station.database.transaction(rows=PIECE_RECORDS) as tx:
            said = read_reached(await LOCKED.fetch(tx, {}))
            planned = await self.plan(tx, said)
            reached = await self.project_next(tx, planned) if planned.adding else planned
            await save(tx, reached)
        if planned.adding and planned != said:
            log.info("columns are brought up to %s", ", ".join(sorted(planned.adding)))
        if planned.adding and not reached.adding:
            log.info("columns are up to %s", ", ".join(sorted(planned.adding)))

    async def project_next(self, tx: AsyncConnection, planned: Reached) -> Reached:
        after = {"partnership": planned.partnership, "uid": planned.uid, "most": PIECE_RECORDS}
        found = await NEXT.fetch(tx, after)
        if not found:
            return Reached(planned.fields | planned.adding, frozenset())
        partnership = found[0][0]
        piece = [row for row in found if row[0] == partnership]
        records = await load_concerned(tx, piece, planned.adding)
        await project(tx, self.station.spec.side, records, await load_policy(tx, partnership), self.station.clock.now_ms())
        metrics.projected.labels(partnership).inc(len(records))
        return planned._replace(partnership=partnership, uid=piece[-1][1])


async def load_concerned(tx: AsyncConnection, piece: list[Any], adding: frozenset[str]) -> list[SharedRecord]:
    """Of one partnership's rows of NEXT, the records of the kinds concerned, locked as a command locks them: with what they are registered
    as. The fields had no column, so it is as if they were written only now."""
    kinds = {name.partition(".")[0] for name in adding}
    registered = {uid: registration for _, uid, kind, registration in piece if kind in kinds}
    wanted = registered.keys() | {each for each in registered.values() if each}
    loaded = await load_records(tx, piece[0][0], wanted)
    records = [loaded[uid] for uid in sorted(registered) if uid in loaded]
    for record in records:
        record.touched |= {name: EMPTY for name in record.document if f"{record.kind}.{name}" in adding}
    return records


def read_reached(rows: Any) -> Reached | None:
    """The row, if there is one."""
    for fields, adding, partnership, uid in rows:
        return Reached(frozenset(json.loads(fields)), frozenset(json.loads(adding)), partnership, uid)
    return None


async def save(tx: AsyncConnection, reached: Reached) -> None:
    sets = {"fields": json.dumps(sorted(reached.fields)), "adding": json.dumps(sorted(reached.adding))}
    row = {"id": ONLY, **sets, "partnership": reached.partnership, "uid": reached.uid}
    await upsert(tx, projections, [row], Reached._fields)
