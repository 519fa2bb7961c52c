"""A registration's company and contact found in this CRM, by website domain and by e-mail, or else created: once, at its arrival."""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from sqlalchemy import Column, Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.rows import take_turn
from shared_schema.crm.tables import companies, contacts, deal_contacts, deals, partnerships, pipelines, stages, users


def normalise_domain(website: str | None) -> str | None:
    """`https://www.Globex.example/about` → `globex.example`; None if there is no domain in it."""
    if not website:
        return None
    host = re.sub(r"^[a-z]+://", "", website.strip().lower()).partition("/")[0].partition(":")[0].rpartition("@")[2]
    host = host.removeprefix("www.").rstrip(".")
    return host if len(host) < 254 and re.fullmatch(r"([a-z0-9-]+\.)+[a-z0-9-]{2,}", host) else None


def normalise_email(email: str | None) -> str | None:
    return email.strip().lower() if email and "@" in email and len(email) <= 320 else None


def text_of(described: Mapping[str, Any], name: str) -> str | None:
    """A part of what the peer described, if it is text: the parts of newer peers may be anything plain."""
    value = described.get(name)
    return value if isinstance(value, str) and value else None


async def create_deals(tx: AsyncConnection, arrived: Mapping[str, Mapping[str, Any]], side: str, now_ms: int) -> dict[str, int]:
    """The deal of each registration that arrived: per uid `partnership`, `company` and `contact` as the peer described them, and `owner`,
    the person whom it wants for it, if that is a user here; deal ids. Their names stand in until the registrations' own arrive.

    Set-based: the number of statements does not depend on how many arrived.
    """
    await take_turn(tx, "matching")
    company_ids = await match_companies(tx, arrived, now_ms)
    contact_ids = await match_contacts(tx, arrived, company_ids, now_ms)
    pipeline_id, stage_id = await first_stage(tx)
    recipients = await lead_recipients(tx) if side == "partner" else {}
    named = await find_users(tx, (each["owner"] for each in arrived.values())) if side == "partner" else {}
    rows = [
        {
            "name": text_of(each["company"], "name") or text_of(each["contact"], "name") or "Shared deal",
            "company_id": company_ids.get(uid),
            "pipeline_id": pipeline_id,
            "stage_id": stage_id,
            "stand_in": True,
            "owner_id": named.get(each["owner"]) or recipients.get(each["partnership"]),
            "created_ms": now_ms,
        }
        for uid, each in arrived.items()
    ]
    deal_ids = dict(zip(arrived, await insert_rows(tx, deals, rows), strict=True))
    links = [{"deal_id": deal_ids[uid], "contact_id": contact_id} for uid, contact_id in contact_ids.items()]
    if links:
        await tx.execute(insert(deal_contacts), links)
    return deal_ids


async def match_companies(tx: AsyncConnection, arrived: Mapping[str, Mapping[str, Any]], now_ms: int) -> dict[str, int]:
    """Company ids by registration; registrations without a company are absent."""
    wanted = {uid: company_row(each["company"], now_ms) for uid, each in arrived.items() if text_of(each["company"], "name")}
    return await match(tx, companies, companies.c.domain, wanted)


def company_row(company: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    domain = normalise_domain(text_of(company, "domain"))
    return {
        "name": text_of(company, "name"),
        "domain": domain,
        "country": text_of(company, "country"),
        "industry": text_of(company, "industry"),
        "created_ms": now_ms,
    }


async def match_contacts(
    tx: AsyncConnection, arrived: Mapping[str, Mapping[str, Any]], company_ids: Mapping[str, int], now_ms: int
) -> dict[str, int]:
    """Contact ids by registration; registrations without a contact are absent."""
    wanted = {
        uid: {
            "name": text_of(each["contact"], "name") or text_of(each["contact"], "email"),
            "email": normalise_email(text_of(each["contact"], "email")),
            "phone": text_of(each["contact"], "phone"),
            "company_id": company_ids.get(uid),
            "created_ms": now_ms,
        }
        for uid, each in arrived.items()
        if text_of(each["contact"], "name") or text_of(each["contact"], "email")
    }
    return await match(tx, contacts, contacts.c.email, wanted)


async def match(tx: AsyncConnection, table: Table, natural: Column[Any], wanted: Mapping[str, dict[str, Any]]) -> dict[str, int]:
    """Ids by registration: the oldest row with the same natural key, or the one that took it over, else one new row per key; rows without
    a key are always new."""
    known = await find_by_key(tx, table, natural, (row[natural.name] for row in wanted.values()))
    fresh: dict[str, dict[str, Any]] = {}
    name_of = partial(key_or_uid, natural.name)
    for uid, row in wanted.items():
        if row[natural.name] not in known:
            fresh.setdefault(name_of(uid, row), row)
    created = dict(zip(fresh, await insert_rows(tx, table, list(fresh.values())), strict=True))
    return {uid: known.get(row[natural.name]) or created[name_of(uid, row)] for uid, row in wanted.items()}


def key_or_uid(natural: str, uid: str, row: Mapping[str, Any]) -> str:
    return str(row[natural] or uid)


async def find_by_key(tx: AsyncConnection, table: Table, natural: Column[Any], keys: Iterable[str | None]) -> dict[str, int]:
    named = sorted({key for key in keys if key})
    if not named:
        return {}
    statement = select(natural, func.min(func.coalesce(table.c.merged_into, table.c.id))).where(natural.in_(named)).group_by(natural)
    return {key: id for key, id in await tx.execute(statement)}


async def insert_rows(tx: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> list[int]:
    """The new rows' ids, in the order of the rows."""
    if not rows:
        return []
    return list((await tx.execute(insert(table).returning(table.c.id, sort_by_parameter_order=True), rows)).scalars())


async def first_stage(tx: AsyncConnection) -> tuple[int | None, int | None]:
    """Where a deal from the peer begins: the first stage of the first pipeline, if there is one."""
    joined = select(pipelines.c.id, stages.c.id).join(stages, stages.c.pipeline_id == pipelines.c.id)
    row = (await tx.execute(joined.order_by(pipelines.c.position, pipelines.c.id, stages.c.position).limit(1))).one_or_none()
    return (row[0], row[1]) if row else (None, None)


async def lead_recipients(tx: AsyncConnection) -> dict[str, int | None]:
    return {id: recipient for id, recipient in await tx.execute(select(partnerships.c.id, partnerships.c.lead_recipient_id))}


async def find_users(tx: AsyncConnection, uids: Iterable[str | None]) -> dict[str | None, int]:
    """Active users of this CRM by uid."""
    wanted = sorted({uid for uid in uids if uid})
    if not wanted:
        return {}
    return {uid: id for uid, id in await tx.execute(select(users.c.uid, users.c.id).where(users.c.uid.in_(wanted), users.c.active))}
