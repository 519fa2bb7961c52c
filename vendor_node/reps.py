"""Reps: who they are, when they are away, what they cover; and their place in the rotation."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.registration import OPEN
from shared_schema.crm.problems import Invalid, NotFound
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.rows import change_rows, hold
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import users
from shared_schema.crm.users import load_user
from vendor_node.assignment import Rep
from vendor_node.tables import reps

LISTS = ("territories", "segments", "languages")
SETTABLE = ("weight", "cap", "out_from", "out_until", *LISTS)
WEIGHT_MAX = 1_000


def select_reps() -> Select[Any]:
    open_deals = (
        select(func.count(shared_deals.c.deal_id.distinct()))
        .where(shared_deals.c.rep_person == users.c.uid, shared_deals.c.status.in_(sorted(OPEN)))
        .scalar_subquery()
    )
    columns = (users.c.id, users.c.uid, users.c.name, users.c.email, users.c.active, *reps.c, open_deals.label("open_deals"))
    return select(*columns).join(users, users.c.id == reps.c.user_id).order_by(users.c.id)


LOCK = Statement(select(reps.c.user_id).order_by(reps.c.user_id).with_for_update())
REPS = Statement(select_reps())
COLUMNS = tuple(select_reps().exported_columns.keys())


async def load_reps(tx: AsyncConnection, *, lock: bool = False) -> list[Rep]:
    """All reps in id order with their open deals counted; locked, so that the rotation moves in the transaction that assigns."""
    if lock:
        await hold(tx, LOCK, {})
    return [read_rep(dict(zip(COLUMNS, row, strict=True))) for row in await REPS.fetch(tx, {})]


def read_rep(row: Mapping[str, Any]) -> Rep:
    values: dict[str, Any] = {name: row[name] for name in Rep._fields if name in row}
    return Rep(**{**values, "person": row["uid"], **{name: tuple(json.loads(row[name])) for name in LISTS}})


async def save_credits(tx: AsyncConnection, credits: Mapping[int, int]) -> None:
    """Move the rotation."""
    await change_rows(tx, reps, [{"user_id": user_id, "credit": credit} for user_id, credit in sorted(credits.items())], "user_id")


async def add_rep(tx: AsyncConnection, user_id: int, values: Mapping[str, Any]) -> None:
    """Make a user a rep. Raises Invalid that names the setting, NotFound for an unknown user."""
    await load_user(tx, user_id)
    known = (await tx.execute(select(reps.c.user_id).where(reps.c.user_id == user_id))).scalar_one_or_none()
    if known is not None:
        raise Invalid("user_id", f"{user_id} is a rep already; change it instead")
    row = {"weight": 1, "territories": "[]", "segments": "[]", "languages": "[]", "credit": 0} | check_values(values)
    await tx.execute(insert(reps).values(user_id=user_id, **row))


async def change_rep(tx: AsyncConnection, user_id: int, values: Mapping[str, Any]) -> None:
    """Change a rep's settings; out of office among them."""
    row = check_values(values)
    done = await tx.execute(update(reps).where(reps.c.user_id == user_id).values(**row)) if row else None
    if done is not None and not done.rowcount:
        raise NotFound("rep", user_id)


def check_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a rep from what was asked."""
    row: dict[str, Any] = {}
    for name, value in values.items():
        if name not in SETTABLE:
            raise Invalid(name, f"is no setting of a rep; there are {', '.join(SETTABLE)}")
        row[name] = json.dumps(check_list(name, value)) if name in LISTS else CHECKS[name](name, value)
    if row.get("out_from") and row.get("out_until") and row["out_until"] < row["out_from"]:
        raise Invalid("out_until", "may not be before out_from")
    return row


def check_list(name: str, value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(each, str) and each for each in value):
        raise Invalid(name, 'takes a list such as ["DE", "AT"]')
    return list(dict.fromkeys(value))


def check_weight(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= WEIGHT_MAX:
        raise Invalid(name, f"takes a whole number from 0 to {WEIGHT_MAX:,}")
    return value


def check_cap(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31):
        raise Invalid(name, "takes a whole number of open deals, or nothing for no cap")
    return value


def check_day(name: str, value: Any) -> str | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise Invalid(name, "takes a date such as 2026-12-24, or nothing") from error


CHECKS = {"weight": check_weight, "cap": check_cap, "out_from": check_day, "out_until": check_day}
