"""What is offered in a shared deal: product lines of either side, quotes and compensation eligibility of the vendor; and the deal team."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table, select

from shared_schema.contract.documents import LIFE
from shared_schema.contract.identifiers import eligibility_uid, member_uid, product_uid
from shared_schema.contract.life import ALIVE
from shared_schema.crm.problems import Invalid, NotAllowed, NotFound
from shared_schema.crm.projected_tables import eligibilities, members, products, quotes
from shared_schema.crm.shared_records import load_record
from shared_schema.crm.users import load_user
from shared_schema.sync.capture import Captured, Creation, Write
from shared_schema.sync.registrations import open_shared_deal
from shared_schema.sync.station import Work

TABLES: dict[str, Table] = {"product": products, "quote": quotes, "eligibility": eligibilities, "member": members}
TYPES = {"product": "products.changed", "quote": "quote.changed", "eligibility": "eligibility.changed", "member": "team.changed"}
QUOTE_FIELDS = ("number", "title", "total", "status", "expires")
ELIGIBILITY_FIELDS = ("eligible", "rate", "reason")


async def put_product(work: Work, shared_deal_id: int, sku: str, name: str | None, quantity: str | None) -> int:
    """Add a product of interest or change its line; the line's id. An addition wins over a removal at the same time."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    if not sku.strip():
        raise Invalid("sku", "may not be empty")
    values = {"sku": sku, "name": name or sku, "quantity": quantity or "1", LIFE: ALIVE}
    return await put(work, row, "product", product_uid(row["uid"], sku), values)


async def put_quote(work: Work, shared_deal_id: int, values: Mapping[str, Any], quote_id: int | None = None) -> int:
    """Add or change a quote of the vendor's; its id."""
    check_vendor(work, "quotes")
    row = await open_shared_deal(work.tx, shared_deal_id)
    uid = work.incarnation.new_uid() if quote_id is None else (await load_line(work, "quote", quote_id))["uid"]
    fields = {name: values[name] for name in QUOTE_FIELDS if name in values}
    if quote_id is None and not fields.get("number"):
        raise Invalid("number", "may not be empty")
    return await put(work, row, "quote", uid, fields)


async def put_eligibility(work: Work, shared_deal_id: int, values: Mapping[str, Any]) -> int:
    """Say whether the partner is compensated for this deal, at which rate (percent) and why."""
    check_vendor(work, "compensation")
    row = await open_shared_deal(work.tx, shared_deal_id)
    fields = {name: values[name] for name in ELIGIBILITY_FIELDS if values.get(name) is not None}
    return await put(work, row, "eligibility", eligibility_uid(row["uid"]), fields)


async def put_member(work: Work, shared_deal_id: int, user_id: int, role: str | None) -> int:
    """Put a user of this side into the deal team; the member's id. The peer gets the person's name along with it."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    user = await load_user(work.tx, user_id)
    person = [Write(user["uid"], name, user[name]) for name in ("name", "role", "active")]
    values = {"person": user["uid"], "role": role or user["role"], LIFE: ALIVE}
    uid = member_uid(row["uid"], user["uid"])
    creations = [Creation(user["uid"], "person", None, None), Creation(uid, "member", row["uid"], row["uid"])]
    writes = [*person, *(Write(uid, name, value) for name, value in values.items())]
    await work.capture(row["partnership"], row["uid"], "team.changed", writes, creations)
    return await find_id(work, row["partnership"], "member", uid)


async def put(work: Work, row: dict[str, Any], kind: str, uid: str, values: Mapping[str, Any]) -> int:
    """Create a line or change it; unchanged values are not sent."""
    writes = [Write(uid, name, value) for name, value in values.items()]
    await work.capture(row["partnership"], row["uid"], TYPES[kind], writes, [Creation(uid, kind, row["uid"], row["uid"])])
    return await find_id(work, row["partnership"], kind, uid)


async def remove(work: Work, kind: str, line_id: int) -> Captured:
    """Remove a product line, quote, eligibility or member on both sides."""
    row = await load_line(work, kind, line_id)
    record = await load_record(work.tx, row["partnership"], row["uid"])
    writes = [Write(row["uid"], LIFE, record.deletion())]
    return await work.capture(row["partnership"], row["registration"], TYPES[kind], writes)


async def load_line(work: Work, kind: str, line_id: int) -> dict[str, Any]:
    row = (await work.tx.execute(select(TABLES[kind]).where(TABLES[kind].c.id == line_id))).mappings().one_or_none()
    if row is None:
        raise NotFound(kind, line_id)
    return dict(row)


async def find_id(work: Work, partnership: str, kind: str, uid: str) -> int:
    table = TABLES[kind]
    return int((await work.tx.execute(select(table.c.id).where(table.c.partnership == partnership, table.c.uid == uid))).scalar_one())


def check_vendor(work: Work, what: str) -> None:
    if work.side != "vendor":
        raise NotAllowed(f"{what} are the vendor's", remedy="ask the vendor in a shared note")
