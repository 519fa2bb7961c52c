"""The duplicate check: who else works on a registration's customer. The vendor sees the similar requests side by side; the partner hears
only that it is in progress already, and nothing of whose it is."""

from typing import Any

from sqlalchemy import ColumnElement, ColumnExpressionArgument, and_, bindparam, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.deals import load_deal
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.shared_deals import LIVING_OPEN
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import companies, contacts, deal_contacts, deals, partnerships, users
from shared_schema.sync import metrics
from shared_schema.sync.capture import Write
from shared_schema.sync.journal import note
from shared_schema.sync.registrations import load_shared_deal
from shared_schema.sync.station import Work

Row = dict[str, Any]
SHOWN_MAX = 50
IN_PROGRESS = "already in progress"
BY_UID = Statement(
    select(shared_deals).where(shared_deals.c.partnership == bindparam("partnership"), shared_deals.c.uid == bindparam("uid"))
)


async def read_similar(connection: AsyncConnection, shared_deal_id: int) -> Row:
    """The registration's deal (`this`); `registrations` of any partner that are open for the same website domain or contact e-mail; and
    `owned`, deals that the vendor works for it alone. `merge` is where two are made one deal: the one named there survives."""
    row = await load_shared_deal(connection, shared_deal_id)
    deal = await load_deal(connection, row["deal_id"])
    shown = {name: deal[name] for name in ("id", "name", "stage", "amount", "close_date", "owner", "company", "created_ms")}
    return {
        "this": {**row, "deal": shown},
        "registrations": [point(each) for each in await find_registrations(connection, row)],
        "owned": [point(each) for each in await find_owned(connection, row)],
    }


def point(row: Row) -> Row:
    return {**row, "merge": f"/api/deals/{row['deal_id']}/merge"}


async def find_registrations(connection: AsyncConnection, row: Row) -> list[Row]:
    """Other open registrations of the same customer, oldest first, with what they have in common."""
    joined = (
        shared_deals.join(deals, deals.c.id == shared_deals.c.deal_id)
        .join(partnerships, partnerships.c.id == shared_deals.c.partnership)
        .outerjoin(users, users.c.id == deals.c.owner_id)
    )
    own = ("id", "partnership", "deal_id", "status", "domain", "contact_email", "created_ms")
    columns: list[ColumnElement[Any]] = [shared_deals.c[name] for name in own]
    columns += [partnerships.c.peer_name.label("partner"), deals.c.name.label("deal"), deals.c.amount, deals.c.currency]
    statement = select(*columns, users.c.name.label("owner")).select_from(joined).where(is_similar(row))
    found = (await connection.execute(statement.order_by(shared_deals.c.id).limit(SHOWN_MAX))).mappings()
    return [{**each, "same": [name for name in ("domain", "contact_email") if row[name] and each[name] == row[name]]} for each in found]


def is_similar(row: Row) -> ColumnElement[bool]:
    """Another open registration with the same domain or e-mail, on another deal or by another partner."""
    same = [shared_deals.c[name] == row[name] for name in ("domain", "contact_email") if row[name]]
    return and_(shared_deals.c.id != row["id"], or_(*same) if same else shared_deals.c.id.is_(None), *LIVING_OPEN)


async def find_owned(connection: AsyncConnection, row: Row) -> list[Row]:
    """Deals for the same customer that no partner registered, oldest first."""
    joined = deals.outerjoin(companies, companies.c.id == deals.c.company_id).outerjoin(users, users.c.id == deals.c.owner_id)
    columns = (deals.c.id.label("deal_id"), deals.c.name.label("deal"), deals.c.amount, deals.c.currency, deals.c.created_ms)
    names = (companies.c.name.label("company"), users.c.name.label("owner"))
    statement = select(*columns, *names).select_from(joined).where(*is_owned(row))
    return [dict(each) for each in (await connection.execute(statement.order_by(deals.c.id).limit(SHOWN_MAX))).mappings()]


def is_owned(row: Row) -> tuple[ColumnExpressionArgument[bool], ...]:
    """A living deal of the vendor's alone with a company of this domain or a contact of this e-mail."""
    same: list[ColumnElement[bool]] = []
    if row["domain"]:
        same.append(deals.c.company_id.in_(select(companies.c.id).where(companies.c.domain == row["domain"])))
    if row["contact_email"]:
        linked = deal_contacts.join(contacts, contacts.c.id == deal_contacts.c.contact_id)
        of_deal = deal_contacts.c.deal_id == deals.c.id
        same.append(exists().select_from(linked).where(of_deal, contacts.c.email == row["contact_email"]))
    alone = (deals.c.id != row["deal_id"], deals.c.number_of_deal_registrations == 0, deals.c.deleted_ms.is_(None))
    return (or_(*same) if same else deals.c.id.is_(None), *alone)


async def count_similar(connection: AsyncConnection, row: Row) -> tuple[int, int]:
    """How many registrations and how many deals of the vendor's own are similar."""
    registrations = select(func.count()).select_from(shared_deals).where(is_similar(row)).scalar_subquery()
    owned = select(func.count()).select_from(deals).where(*is_owned(row)).scalar_subquery()
    found = (await connection.execute(select(registrations, owned))).one()
    return int(found[0]), int(found[1])


async def check(work: Work, record: SharedRecord) -> None:
    """Look once for who else works on the customer of a registration that was submitted, and tell its partner that somebody does."""
    if record.document.get("duplicate").siblings:
        return
    found = await BY_UID.fetch(work.tx, {"partnership": record.partnership, "uid": record.uid})
    row = dict(zip(shared_deals.c.keys(), found[0], strict=True))
    registrations, owned = await count_similar(work.tx, row)
    if not registrations and not owned:
        return
    detail = f"{registrations} open registrations, {owned} deals of our own for the same customer"
    await note(work, record.partnership, record.uid, "similar requests", detail)
    said = [Write(record.uid, "duplicate", {"said": IN_PROGRESS, "at": work.now_ms})]
    await work.capture(record.partnership, record.uid, "registration.checked", said)
    work.after.append(lambda: metrics.duplicates.labels(record.partnership).inc())
