"""Companies, contacts and pipelines: the node's own CRM, never shared whole."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, Table, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.matching import normalise_domain, normalise_email, text_of
from shared_schema.crm.problems import Invalid, NotFound
from shared_schema.crm.rows import Among, hold
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import companies, contacts, deal_contacts, deals, pipelines, stages

Row = dict[str, Any]
What = Literal["company", "contact"]
OUTCOMES = ("open", "won", "lost")
PAGE_MAX = 200
ERASED_NAME = "(erased)"


async def add_company(tx: AsyncConnection, values: Row, now_ms: int) -> int:
    """A new company's id. `values`: name, domain, country, industry, owner_id."""
    row = check_company(values)
    if not row.get("name"):
        raise Invalid("name", "may not be empty")
    return int((await tx.execute(insert(companies).values(**row, created_ms=now_ms).returning(companies.c.id))).scalar_one())


async def change_company(tx: AsyncConnection, company_id: int, values: Row) -> None:
    """Set columns of a company, or of the one that took it over."""
    company = await load_company(tx, company_id)
    row = check_company(values)
    if row:
        await tx.execute(update(companies).where(companies.c.id == company["id"]).values(**row))


def check_company(values: Row) -> Row:
    row: Row = {name: values[name] for name in ("name", "country", "industry", "owner_id") if name in values}
    if values.get("domain"):
        row["domain"] = normalise_domain(values["domain"])
        if row["domain"] is None:
            raise Invalid("domain", "takes a website such as globex.example")
    return row


async def add_contact(tx: AsyncConnection, values: Row, now_ms: int) -> int:
    """A new contact's id. `values`: name, email, phone, company_id."""
    if not values.get("name"):
        raise Invalid("name", "may not be empty")
    row = {"name": values["name"], "email": normalise_email(values.get("email")), "company_id": values.get("company_id")}
    if values.get("email") and row["email"] is None:
        raise Invalid("email", "takes an address such as ann@globex.example")
    row["phone"] = normalise_phone(values.get("phone"))
    if row["company_id"] is not None:
        row["company_id"] = (await load_company(tx, row["company_id"]))["id"]
    return int((await tx.execute(insert(contacts).values(**row, created_ms=now_ms).returning(contacts.c.id))).scalar_one())


async def find_contacts(tx: AsyncConnection, described: Mapping[str, Any], of_deal: Select[Any]) -> list[int]:
    """The contacts that a registration's details mean: those with the e-mail; without one, those of that name in its deal; with those that
    were merged with them; held."""
    email = normalise_email(text_of(described, "email"))
    linked = select(deal_contacts.c.contact_id).where(deal_contacts.c.deal_id.in_(of_deal))
    head = func.coalesce(contacts.c.merged_into, contacts.c.id)
    meant = contacts.c.email == email if email else and_(contacts.c.name == text_of(described, "name"), head.in_(linked))
    return await hold_family(tx, meant)


async def find_family(tx: AsyncConnection, meant: ColumnElement[bool]) -> list[int]:
    """Contacts with all that were merged with them: they are one person."""
    heads = select(func.coalesce(contacts.c.merged_into, contacts.c.id)).where(meant)
    family = or_(contacts.c.id.in_(heads), contacts.c.merged_into.in_(heads))
    return list((await tx.execute(select(contacts.c.id).where(family).order_by(contacts.c.id))).scalars())


async def hold_family(tx: AsyncConnection, meant: ColumnElement[bool]) -> list[int]:
    """The same, held until the transaction ends. They are looked for again once they are, because some may have been merged until then."""
    held: list[int] = []
    while (family := await find_family(tx, meant)) != held:
        held = family
        await lock_rows(tx, "contact", held)
    return held


async def find_described(tx: AsyncConnection, what: What, described: Any, deal_id: int) -> int | None:
    """The company or contact of a deal, by the id that it has now, that a registration's details mean: themselves, or what was merged with
    them. None where it is nobody of this deal's, or may be several."""
    table = TABLES[what]
    head = func.coalesce(table.c.merged_into, table.c.id)
    of_company = select(deals.c.company_id).where(deals.c.id == deal_id)
    there = of_company if what == "company" else select(deal_contacts.c.contact_id).where(deal_contacts.c.deal_id == deal_id)
    for meant in mean(what, described) if isinstance(described, Mapping) else ():
        found = (await tx.execute(select(head).where(meant, head.in_(there)).distinct())).scalars().all()
        if found:
            return found[0] if len(found) == 1 else None
    return None


def mean(what: What, described: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """Which rows details may mean, the surest way first. A deal has many contacts, so one with an e-mail is no other of the same name; it
    has one company, whose website may have been changed since."""
    name = text_of(described, "name")
    if what == "contact":
        email = normalise_email(text_of(described, "email"))
        return [contacts.c.email == email if email else contacts.c.name == name]
    domain = normalise_domain(text_of(described, "domain"))
    return [*([companies.c.domain == domain] if domain else []), companies.c.name == name]


async def erase_contacts(tx: AsyncConnection, contact_ids: Sequence[int], now_ms: int) -> None:
    """The personal data of these contacts; their ids and links stay."""
    blank = {"name": ERASED_NAME, "email": None, "phone": None, "erased_ms": now_ms}
    await tx.execute(update(contacts).where(contacts.c.id.in_(contact_ids)).values(blank))


def normalise_phone(phone: str | None) -> str | None:
    """E.164: a plus, then at most 15 digits."""
    if not phone:
        return None
    digits = re.sub(r"[\s().-]", "", phone)
    if not re.fullmatch(r"\+[1-9]\d{6,14}", digits):
        raise Invalid("phone", "takes a number with its country, such as +49 30 901820")
    return digits


def select_by_id(table: Table) -> Statement:
    meant = select(func.coalesce(table.c.merged_into, table.c.id)).where(table.c.id == bindparam("id")).scalar_subquery()
    return Statement(select(table).where(table.c.id == meant))


def select_locked(table: Table) -> Statement:
    return Statement(select(table.c.id).where(Among(table.c.id, "ids")).order_by(table.c.id).with_for_update(key_share=True))


TABLES: Mapping[What, Table] = {"company": companies, "contact": contacts}
BY_ID = {what: select_by_id(table) for what, table in TABLES.items()}
LOCKED = {what: select_locked(table) for what, table in TABLES.items()}
PIPELINES = Statement(select(pipelines).order_by(pipelines.c.position, pipelines.c.id))
STAGES = Statement(select(stages.c.pipeline_id, stages.c.id, stages.c.name, stages.c.outcome).order_by(stages.c.position))


async def load_company(tx: AsyncConnection, company_id: int) -> Row:
    return await load_row(tx, "company", company_id)


async def load_contact(tx: AsyncConnection, contact_id: int) -> Row:
    return await load_row(tx, "contact", contact_id)


async def load_row(tx: AsyncConnection, what: What, row_id: int) -> Row:
    """One company or contact by its id, or the one that took it over; raises NotFound."""
    found = await BY_ID[what].fetch(tx, {"id": row_id})
    if not found:
        raise NotFound(what, row_id)
    return dict(zip(TABLES[what].c.keys(), found[0], strict=True))


async def lock_rows(tx: AsyncConnection, what: What, ids: Iterable[int]) -> None:
    """Hold companies or contacts, in id order, until the transaction ends."""
    await hold(tx, LOCKED[what], {"ids": sorted(ids)})


async def take_over(tx: AsyncConnection, table: Table, survivor: Row, merged: Row) -> None:
    """The survivor gets what it lacks; the other's id, and those that led to it, lead to the survivor."""
    own = ("id", "created_ms", "merged_into", "erased_ms")
    lacking = {name: value for name, value in merged.items() if name not in own and survivor[name] is None and value is not None}
    if lacking:
        await tx.execute(update(table).where(table.c.id == survivor["id"]).values(**lacking))
    led = or_(table.c.id == merged["id"], table.c.merged_into == merged["id"])
    await tx.execute(update(table).where(led).values(merged_into=survivor["id"]))


async def list_rows(tx: AsyncConnection, table: Table, after: int, limit: int) -> list[Row]:
    """A page of companies or contacts in id order, after an id; without those that were taken over."""
    statement = select(table).where(table.c.id > after, table.c.merged_into.is_(None)).order_by(table.c.id).limit(min(limit, PAGE_MAX))
    return [dict(row) for row in (await tx.execute(statement)).mappings()]


async def add_pipeline(tx: AsyncConnection, name: str, named_stages: list[tuple[str, str]], position: int = 0) -> int:
    """A new pipeline with its stages in order, each a name and an outcome: open, won or lost."""
    if not name.strip() or not named_stages or not all(stage.strip() for stage, _ in named_stages):
        raise Invalid("stages", "takes at least one, and every name may not be empty")
    if len({stage for stage, _ in named_stages}) < len(named_stages):
        raise Invalid("stages", "takes each name once")
    for _, outcome in named_stages:
        if outcome not in OUTCOMES:
            raise Invalid("outcome", f"takes one of {', '.join(OUTCOMES)}")
    pipeline_id = (await tx.execute(insert(pipelines).values(name=name, position=position).returning(pipelines.c.id))).scalar_one()
    rows = [
        {"pipeline_id": pipeline_id, "name": stage, "position": place, "outcome": outcome}
        for place, (stage, outcome) in enumerate(named_stages)
    ]
    await tx.execute(insert(stages), rows)
    return int(pipeline_id)


async def list_pipelines(tx: AsyncConnection) -> list[Row]:
    """Pipelines with their stages in order."""
    found = [dict(zip(pipelines.c.keys(), row, strict=True)) for row in await PIPELINES.fetch(tx, {})]
    by_pipeline: dict[int, list[Row]] = {row["id"]: [] for row in found}
    for pipeline_id, stage_id, name, outcome in await STAGES.fetch(tx, {}):
        by_pipeline[pipeline_id].append({"id": stage_id, "name": name, "outcome": outcome})
    return [{**row, "stages": by_pipeline[row["id"]]} for row in found]


async def find_stage(tx: AsyncConnection, pipeline: str | None, stage: str | None) -> tuple[int, int, str, str]:
    """Ids and names of a stage by the names of its pipeline and itself; the first ones where no name is given. Raises Invalid."""
    known = await list_pipelines(tx)
    if not known:
        raise Invalid("pipeline", "can not be chosen: this CRM has no pipeline yet; add one")
    for row in known:
        if pipeline in (None, row["name"]):
            for each in row["stages"]:
                if stage in (None, each["name"]):
                    return row["id"], each["id"], row["name"], each["name"]
            names = ", ".join(each["name"] for each in row["stages"])
            raise Invalid("stage", f"takes one of {names}")
    raise Invalid("pipeline", f"takes one of {', '.join(row['name'] for row in known)}")
