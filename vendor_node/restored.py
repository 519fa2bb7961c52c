"""What is the vendor's own beside the shared records, after its store went back: assignments that came back with their registrations, and
the rotation, which moves on by them. Nobody gets another rep, and no rep loses a registration for not having answered meanwhile."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select

from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.rows import insert_rows
from shared_schema.crm.shared_records import load_records
from shared_schema.crm.tables import companies, deals, users
from shared_schema.sync.journal import note
from shared_schema.sync.station import Work
from shared_schema.sync.tables import reactions
from vendor_node.assignment import Rep, Request, turn_for
from vendor_node.decisions import date_of, requested_rep
from vendor_node.reps import load_reps, save_credits
from vendor_node.tables import assignments

Row = dict[str, Any]


async def mend(work: Work, partnership: str) -> None:
    """Write down the assignments that came back, turn the wheel once for each, and wait no longer for anybody's word."""
    returned = await find_returned(work, partnership)
    reps = {rep.person: rep for rep in await load_reps(work.tx, lock=True)}
    known = [row for row in returned if row["rep_person"] in reps]
    if known:
        turns = await turn(work, partnership, known, list(reps.values()))
        made = [make_assignment(row, reps[row["rep_person"]], credits, work.now_ms) for row, credits in zip(known, turns, strict=True)]
        await insert_rows(work.tx, assignments, made)
        await save_credits(work.tx, {rep_id: credit for credits in turns for rep_id, credit in credits.items()})
    for row in returned:
        if row["rep_person"] not in reps:
            await note(work, partnership, row["uid"], "alert: unknown rep", "it came back with a rep whom this store does not know")
    await end_timers(work, partnership)


async def find_returned(work: Work, partnership: str) -> list[Row]:
    """The registrations whose rep is not the one assigned last by what this store remembers, with what an assignment depends on."""
    of_it = (assignments.c.partnership == shared_deals.c.partnership, assignments.c.registration == shared_deals.c.uid)
    given = select(users.c.uid).join(assignments, assignments.c.rep_id == users.c.id).where(*of_it)
    last = given.order_by(assignments.c.id.desc()).limit(1).correlate(shared_deals).scalar_subquery()
    columns = (shared_deals.c.partnership, shared_deals.c.uid, shared_deals.c.rep_person)
    joined = shared_deals.join(deals, deals.c.id == shared_deals.c.deal_id).outerjoin(companies, companies.c.id == deals.c.company_id)
    statement = select(*columns, companies.c.owner_id, companies.c.country, companies.c.industry).select_from(joined)
    where = (
        shared_deals.c.partnership == partnership,
        shared_deals.c.rep_person.is_not(None),
        shared_deals.c.rep_person != func.coalesce(last, ""),
    )
    return [dict(row) for row in (await work.tx.execute(statement.where(*where).order_by(shared_deals.c.id))).mappings()]


def make_assignment(row: Row, rep: Rep, credits: dict[int, int], now_ms: int) -> Row:
    """An assignment that came back; its explanation names how the rotation stood after it, for nothing else tells."""
    why = f"{rep.name} had it before this store went back"
    told: Row = {"request": {"registration": row["uid"]}, "considered": [], "steps": [{"method": "restored", "chosen": rep.id, "why": why}]}
    told["credits"] = credits
    made = {"partnership": row["partnership"], "registration": row["uid"], "rep_id": rep.id, "method": "restored", "turn": 0}
    return made | {"automatic": False, "explanation": json.dumps(told), "at_ms": now_ms}


async def turn(work: Work, partnership: str, returned: Sequence[Row], reps: Sequence[Rep]) -> list[dict[int, int]]:
    """For each of these assignments, the credits that it changed."""
    records = await load_records(work.tx, partnership, [row["uid"] for row in returned])
    now = {rep.id: rep for rep in reps}
    by_person = {rep.person: rep.id for rep in reps}
    turns = []
    for row in returned:
        asked = requested_rep(records[row["uid"]])
        request = Request(row["uid"], date_of(work.now_ms), row["owner_id"], asked, row["country"], row["industry"])
        turns.append(turn_for(list(now.values()), request, by_person[row["rep_person"]]))
        now |= {rep_id: now[rep_id]._replace(credit=credit) for rep_id, credit in turns[-1].items()}
    return turns


async def end_timers(work: Work, partnership: str) -> None:
    """Who accepted since the copy was made is not known any more: whoever has a registration by now keeps it, until a person gives it to
    somebody else."""
    timers = (reactions.c.partnership == partnership, reactions.c.kind == "accept")
    ended = await work.tx.execute(delete(reactions).where(*timers).returning(reactions.c.registration))
    for registration in sorted(ended.scalars()):
        await note(work, partnership, registration, "accepting no longer awaited", "the rep may have accepted what this store has lost")
