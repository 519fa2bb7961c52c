"""Assigning reps to registrations: by itself as a reaction, again when nobody accepts in time or a person says so; each time with the
explanation."""

import json
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.registration import is_active, status_of
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import Invalid, NotAllowed, WrongState
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.rows import insert_rows, upsert
from shared_schema.crm.shared_records import SharedRecord, load_records
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import companies, deals
from shared_schema.sync import metrics
from shared_schema.sync.capture import Creation, Write
from shared_schema.sync.journal import note
from shared_schema.sync.registrations import open_shared_deal
from shared_schema.sync.station import Work
from shared_schema.sync.tables import reactions
from vendor_node.assignment import Rep, Request, assign, forget
from vendor_node.decisions import date_of, has_rep, requested_rep
from vendor_node.reps import load_reps, save_credits
from vendor_node.tables import assignments

Row = dict[str, Any]
HOUR_MS = 3_600_000


async def react_assign(work: Work, partnership: str, registration: str) -> None:
    """Assign a rep to an active registration that has none; the rotation moves in this transaction. What changed meanwhile needs no rep."""
    record = (await load_records(work.tx, partnership, [registration])).get(registration)
    status = status_of(record.document) if record else "missing"
    if record is None or not is_active(status) or has_rep(record):
        await note(work, partnership, registration, "nobody to assign", f"the registration is {status}")
        return
    await assign_next(work, record, [])


async def react_accept(work: Work, partnership: str, registration: str) -> None:
    """The time to accept is over: the next one's turn, unless somebody accepted, a person chose, it came back with its rep to a restored
    store, or it is no longer active."""
    record = (await load_records(work.tx, partnership, [registration])).get(registration)
    past = await list_assignments(work.tx, partnership, registration)
    if record is None or not is_active(status_of(record.document)) or not past or is_settled(past[0]):
        return
    await assign_next(work, record, past)


async def react_forget(work: Work, partnership: str, registration: str) -> None:
    """The registration is erased: its assignments keep the rotation's account, and nothing that the deal had told."""
    for row in await list_assignments(work.tx, partnership, registration):
        told = json.dumps(forget(row["explanation"]))
        await work.tx.execute(update(assignments).where(assignments.c.id == row["id"]).values(explanation=told))
    work.woken.add("erasures")


def is_settled(assignment: Row) -> bool:
    """Whether nobody waits for the rep's word any more."""
    return bool(assignment["accepted_ms"]) or assignment["method"] in ("person", "restored")


async def assign_next(work: Work, record: SharedRecord, past: list[Row]) -> None:
    """One turn of the wheel, without those who let their turn lapse. If nobody is left, whoever has it keeps it, with an alert."""
    partnership, registration = record.partnership, record.uid
    lapsed = {row["rep_id"] for row in past}
    reps = [rep._replace(lapsed=rep.id in lapsed) for rep in await load_reps(work.tx, lock=True)]
    decided = assign(reps, await make_request(work, record))
    await save_credits(work.tx, decided.credits)
    row = {"partnership": partnership, "registration": registration, "rep_id": decided.rep_id, "method": decided.method}
    row |= {"turn": len(past) + 1, "automatic": True, "explanation": json.dumps(decided.explanation), "at_ms": work.now_ms}
    await insert_rows(work.tx, assignments, [row])
    if decided.rep_id is None:
        await note(work, partnership, registration, "alert: no rep", "nobody is eligible; assign somebody by hand")
        return
    chosen = next(rep for rep in reps if rep.id == decided.rep_id)
    await write_rep(work, partnership, registration, chosen)
    await set_timer(work, partnership, registration)
    work.after.append(lambda: count_assignment(chosen, decided.method))


async def set_timer(work: Work, partnership: str, registration: str) -> None:
    """When the policy sets one, the assignment is looked at again once the time to accept is over."""
    hours = (await load_policy(work.tx, partnership)).accept_hours
    if hours > 0:
        row = {"partnership": partnership, "registration": registration, "kind": "accept", "created_ms": work.now_ms, "attempts": 0}
        await upsert(work.tx, reactions, [row | {"due_ms": work.now_ms + hours * HOUR_MS}], ("due_ms",))


async def accept(work: Work, shared_deal_id: int) -> None:
    """The assigned rep takes the registration on; so may an admin for them. Raises NotAllowed for others, WrongState without a rep."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    current = next((each for each in await list_assignments(work.tx, row["partnership"], row["uid"]) if each["rep_id"] is not None), None)
    if current is None:
        raise WrongState("this registration has no rep yet", remedy="assign somebody first")
    if work.author.role != "admin" and work.author.user_id != current["rep_id"]:
        raise NotAllowed("only the assigned rep accepts a registration", remedy="reassign it first")
    if current["accepted_ms"] is None:
        await work.tx.execute(update(assignments).where(assignments.c.id == current["id"]).values(accepted_ms=work.now_ms))
    await stop_timer(work, row["partnership"], row["uid"])


async def stop_timer(work: Work, partnership: str, registration: str) -> None:
    where = (reactions.c.partnership == partnership, reactions.c.registration == registration, reactions.c.kind == "accept")
    await work.tx.execute(delete(reactions).where(*where))


def count_assignment(rep: Rep, method: str) -> None:
    """For the metrics, once it is committed."""
    metrics.assignments.labels(rep.name, method).inc()


CUSTOMER = Statement(
    select(companies.c.owner_id, companies.c.country, companies.c.industry, deals.c.owner_id)
    .select_from(shared_deals.join(deals, deals.c.id == shared_deals.c.deal_id).outerjoin(companies, companies.c.id == deals.c.company_id))
    .where(shared_deals.c.partnership == bindparam("partnership"), shared_deals.c.uid == bindparam("registration"))
)


async def make_request(work: Work, record: SharedRecord) -> Request:
    """What the assignment depends on, besides the reps."""
    found = await CUSTOMER.fetch(work.tx, {"partnership": record.partnership, "registration": record.uid})
    company_owner, country, industry, deal_owner = found[0]
    return Request(record.uid, date_of(work.now_ms), company_owner, requested_rep(record), country, industry, deal_owner)


async def write_rep(work: Work, partnership: str, registration: str, rep: Rep) -> None:
    """The rep as the vendor's own field of the registration; the partner gets the name along with it."""
    person = {"name": rep.name, "role": "rep", "active": rep.active}
    writes = [Write(rep.person, name, value) for name, value in person.items()]
    writes.append(Write(registration, "rep", {"person": rep.person, "name": rep.name, "email": rep.email}))
    await work.capture(partnership, registration, "assignment.made", writes, [Creation(rep.person, "person", None, None)])


async def reassign(work: Work, shared_deal_id: int, rep_id: int) -> None:
    """A person gives the registration to another rep."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    if not is_active(row["status"]):
        raise WrongState(f"a registration that is {row['status']} has no rep to assign", remedy="decide on it first")
    rep = next((each for each in await load_reps(work.tx, lock=True) if each.id == rep_id), None)
    if rep is None:
        raise Invalid("rep_id", f"{rep_id} is no rep; list the reps to see who is")
    told = {
        "request": {"registration": row["uid"]},
        "considered": [],
        "steps": [{"method": "person", "chosen": rep_id, "why": work.author.name}],
    }
    chosen = {"partnership": row["partnership"], "registration": row["uid"], "rep_id": rep_id, "method": "person", "turn": 0}
    chosen |= {"automatic": False, "explanation": json.dumps(told), "at_ms": work.now_ms}
    await insert_rows(work.tx, assignments, [chosen])
    await stop_timer(work, row["partnership"], row["uid"])
    await write_rep(work, row["partnership"], row["uid"], rep)
    work.after.append(lambda: count_assignment(rep, "person"))


async def list_assignments(connection: AsyncConnection, partnership: str, registration: str) -> list[Row]:
    """A registration's assignments, newest first, with their explanations. They are the vendor's: none of them travels, because they
    name its other customers' reps and how busy each is; the partner gets the rep's name alone."""
    where = (assignments.c.partnership == partnership, assignments.c.registration == registration)
    rows = (await connection.execute(select(assignments).where(*where).order_by(assignments.c.id.desc()))).mappings()
    return [{**row, "explanation": json.loads(row["explanation"])} for row in rows]


async def list_unassigned(connection: AsyncConnection) -> list[Row]:
    """The fallback queue: active registrations without a rep."""
    statement = select(shared_deals.c.id, shared_deals.c.deal_id, shared_deals.c.partnership, shared_deals.c.created_ms).where(
        shared_deals.c.status.in_(("active", "extension pending")), shared_deals.c.rep_person.is_(None)
    )
    return [dict(row) for row in (await connection.execute(statement.order_by(shared_deals.c.id))).mappings()]
