"""The node's own people, and the tokens with which their programs come in. A token is kept as its digest only."""

import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.matching import normalise_email
from shared_schema.crm.problems import Invalid, NotFound
from shared_schema.crm.tables import api_tokens, users

ROLES = ("admin", "manager", "rep")
TOKEN_PREFIX = "dbt_"
Row = dict[str, Any]


async def add_user(tx: AsyncConnection, uid: str, name: str, email: str, role: str = "rep") -> int:
    """A new user's id. Raises Invalid for a role that does not exist, a bad e-mail, or one that is taken."""
    address = normalise_email(email)
    check_person(name, role)
    if address is None:
        raise Invalid("email", "takes an address such as ann@acme.example")
    if await find_user(tx, address):
        raise Invalid("email", f"{address} is taken by another user")
    row = {"uid": uid, "name": name.strip(), "email": address, "role": role, "active": True}
    return int((await tx.execute(insert(users).values(row).returning(users.c.id))).scalar_one())


async def change_user(tx: AsyncConnection, user_id: int, values: Mapping[str, Any]) -> Row:
    """Change name, role or active; the user as they are now. Raises NotFound, or Invalid that names the field."""
    before = await load_user(tx, user_id)
    if unknown := sorted(set(values) - {"name", "role", "active"}):
        raise Invalid(unknown[0], "can not be changed; there are name, role and active")
    after = {**before, **values}
    check_person(after["name"], after["role"])
    changes = {"name": after["name"].strip(), "role": after["role"], "active": bool(after["active"])}
    await tx.execute(update(users).where(users.c.id == user_id).values(changes))
    return before | changes


def check_person(name: str, role: str) -> None:
    if not name.strip():
        raise Invalid("name", "may not be empty")
    if role not in ROLES:
        raise Invalid("role", f"takes one of {', '.join(ROLES)}")


async def find_user(tx: AsyncConnection, email: str) -> Row | None:
    row = (await tx.execute(select(users).where(users.c.email == email.strip().lower()))).mappings().one_or_none()
    return dict(row) if row else None


async def load_user(tx: AsyncConnection, user_id: int) -> Row:
    row = (await tx.execute(select(users).where(users.c.id == user_id))).mappings().one_or_none()
    if row is None:
        raise NotFound("user", user_id)
    return dict(row)


async def list_users(tx: AsyncConnection) -> list[Row]:
    return [dict(row) for row in (await tx.execute(select(users).order_by(users.c.id))).mappings()]


async def issue_token(tx: AsyncConnection, user_id: int, name: str, secret_bits: int, now_ms: int) -> str:
    """A new bearer token for a user's programs, from 192 random bits; shown this once."""
    await load_user(tx, user_id)
    token = f"{TOKEN_PREFIX}{secret_bits:048x}"
    await tx.execute(insert(api_tokens).values(user_id=user_id, name=name, digest=digest_of(token), created_ms=now_ms))
    return token


async def find_bearer(tx: AsyncConnection, token: str) -> Row | None:
    """The active user that a token belongs to, or None."""
    where = (api_tokens.c.digest == digest_of(token), api_tokens.c.revoked_ms.is_(None), users.c.active)
    statement = select(users).join(api_tokens, api_tokens.c.user_id == users.c.id).where(*where)
    row = (await tx.execute(statement)).mappings().one_or_none()
    return dict(row) if row else None


async def list_tokens(tx: AsyncConnection) -> list[Row]:
    """Names, owners and dates; never the tokens."""
    columns = (api_tokens.c.id, api_tokens.c.name, users.c.email, api_tokens.c.created_ms, api_tokens.c.revoked_ms)
    statement = select(*columns).join(users, api_tokens.c.user_id == users.c.id).order_by(api_tokens.c.id)
    return [dict(row) for row in (await tx.execute(statement)).mappings()]


async def revoke_token(tx: AsyncConnection, token_id: int, now_ms: int) -> None:
    done = await tx.execute(update(api_tokens).where(api_tokens.c.id == token_id).values(revoked_ms=now_ms))
    if not done.rowcount:
        raise NotFound("token", token_id)


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
