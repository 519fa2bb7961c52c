"""Conflicts as people see and settle them: base, ours and theirs, who and when, which is shown and why. The loser is never lost."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.policy import Policy, display
from shared_schema.contract.registers import Register, Sibling, Side, encode_token, latest_first, side_of
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import Invalid, NotFound, WrongState
from shared_schema.crm.projected_tables import conflicts, shared_deals
from shared_schema.crm.shared_records import SharedRecord, load_record, read_record
from shared_schema.crm.tables import deals, property_history
from shared_schema.sync.capture import Captured, Write
from shared_schema.sync.registrations import read_tokens
from shared_schema.sync.station import Work
from shared_schema.sync.views import load_people

Row = dict[str, Any]
Choice = Literal["keep", "theirs", "edit"]
PAGE_MAX = 200


async def list_open(connection: AsyncConnection, after: int = 0, limit: int = 50) -> list[Row]:
    """A page of open conflicts in id order, with the deals that they are in."""
    its_own = and_(shared_deals.c.partnership == conflicts.c.partnership, shared_deals.c.uid == conflicts.c.registration)
    joined = conflicts.outerjoin(shared_deals, its_own).outerjoin(deals, deals.c.id == shared_deals.c.deal_id)
    columns = (*conflicts.c, shared_deals.c.id.label("shared_deal_id"), deals.c.id.label("deal_id"), deals.c.name.label("deal"))
    statement = select(*columns).select_from(joined).where(conflicts.c.id > after).order_by(conflicts.c.id).limit(min(limit, PAGE_MAX))
    return [dict(row) for row in (await connection.execute(statement)).mappings()]


async def list_contested(connection: AsyncConnection) -> list[Row]:
    """Deals that one side deleted and the other changed without having seen that."""
    joined = shared_deals.join(deals, deals.c.id == shared_deals.c.deal_id)
    columns = (shared_deals.c.id.label("shared_deal_id"), deals.c.id.label("deal_id"), deals.c.name.label("deal"))
    statement = select(*columns).select_from(joined).where(shared_deals.c.state == "contested").order_by(shared_deals.c.id)
    return [dict(row) for row in (await connection.execute(statement)).mappings()]


async def load(connection: AsyncConnection, conflict_id: int) -> Row:
    row = (await connection.execute(select(conflicts).where(conflicts.c.id == conflict_id))).mappings().one_or_none()
    if row is None:
        raise NotFound("conflict", conflict_id)
    return dict(row)


async def read(connection: AsyncConnection, side: Side, conflict_id: int) -> Row:
    """One conflict whole: base, ours, theirs, which is shown and why, and the token that a settlement sends back."""
    row = await load(connection, conflict_id)
    record = await read_record(connection, row["partnership"], row["uid"])
    if record is None:
        raise NotFound("conflict", conflict_id)
    register = record.document.get(row["field"])
    people = await load_people(connection, row["partnership"])
    policy = await load_policy(connection, row["partnership"])
    ours = newest(register, side)
    theirs = newest(register, "vendor" if side == "partner" else "partner")
    return {
        **row,
        "base": await find_base(connection, record, row["field"], register),
        "ours": present(ours, people),
        "theirs": present(theirs, people),
        "values": [present(each, people) for each in latest_first(register.siblings)],
        **explain(record, row["field"], register, policy),
        "seen": encode_token(register.context),
    }


def newest(register: Register, side: Side) -> Sibling | None:
    """The latest value that a side wrote, of those that stand."""
    return next((each for each in latest_first(register.siblings) if side_of(each.dot.incarnation) == side), None)


def present(sibling: Sibling | None, people: Mapping[str, str]) -> Row | None:
    if sibling is None:
        return None
    who = people.get(sibling.actor or "")
    return {"value": sibling.value, "side": side_of(sibling.dot.incarnation), "by": who, "at_ms": sibling.stamp.physical}


def explain(record: SharedRecord, field: str, register: Register, policy: Policy) -> Row:
    """Which value is displayed meanwhile, and by which rule."""
    rule = policy.display_rule(record.kind, field)
    shown = display(register, rule)
    why = "the latest is shown" if rule == "latest" else f"the {rule}'s value is shown"
    return {"shown": shown.value if shown else None, "why": f"{why} until somebody settles it"}


async def find_base(connection: AsyncConnection, record: SharedRecord, field: str, register: Register) -> Any:
    """The value that stood before the sides parted: the latest one written before all that stand now; None if there was none."""
    history = property_history
    first = min((each.stamp for each in register.siblings), default=(0, 0))
    earlier: ColumnElement[bool] = or_(history.c.physical < first[0], (history.c.physical == first[0]) & (history.c.logical < first[1]))
    standing = [tuple(each.dot) for each in register.siblings]
    where = (history.c.partnership == record.partnership, history.c.uid == record.uid, history.c.field == field, earlier)
    statement = select(history.c.value).where(*where, tuple_(history.c.incarnation, history.c.counter).not_in(standing))
    order = (history.c.physical.desc(), history.c.logical.desc())
    found = (await connection.execute(statement.order_by(*order).limit(1))).scalar_one_or_none()
    return json.loads(found) if found is not None else None


async def settle(work: Work, conflict_id: int, choice: Choice, value: Any = None, seen: str | None = None) -> Captured:
    """A person's choice: keep ours, take theirs, or another value. It covers what `seen` says was shown; without it, what is stored."""
    row = await load(work.tx, conflict_id)
    record = await load_record(work.tx, row["partnership"], row["uid"])
    chosen = choose(work.side, record.document.get(row["field"]), choice, value)
    context = read_tokens({row["field"]: seen}).get(row["field"])
    writes = [Write(row["uid"], row["field"], chosen, context)]
    return await work.capture(row["partnership"], row["registration"], "conflict.settled", writes)


def choose(side: Side, register: Register, choice: Choice, value: Any) -> Any:
    """The value that a choice names; raises Invalid for one that does not exist."""
    if choice == "edit":
        return value
    if choice not in ("keep", "theirs"):
        raise Invalid("choice", "takes keep, theirs or edit")
    wanted: Side = side if choice == "keep" else "vendor" if side == "partner" else "partner"
    standing = newest(register, wanted)
    if standing is None:
        raise WrongState(f"the {wanted} has no value in this conflict", remedy="choose edit and give the value")
    return standing.value
