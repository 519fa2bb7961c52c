"""A deal's registrations from this side: sharing, leaving, stopping, deleting for both, restoring."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Outcome, RecordChange, decode_event
from shared_schema.contract.documents import LIFE
from shared_schema.contract.identifiers import deal_uid, product_uid
from shared_schema.contract.life import ALIVE
from shared_schema.contract.records import DEAL_FIELDS
from shared_schema.contract.registers import BadToken, Context, decode_token
from shared_schema.contract.registration import KEPT_WHEN_UNSHARED, OPEN, outlasts_sharing, round_of
from shared_schema.crm.customers import load_company
from shared_schema.crm.deals import hold_deal
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import Invalid, NotAllowed, NotFound, WrongState
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.rows import Among, in_partnership
from shared_schema.crm.shared_deals import GONE, LIVING_OPEN
from shared_schema.crm.shared_records import SharedRecord, load_record
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import deals, partnerships
from shared_schema.sync import owed_states, parking
from shared_schema.sync.answers import answer, make_answers
from shared_schema.sync.brake import find_held
from shared_schema.sync.braking import UNSHARED
from shared_schema.sync.capture import Captured, Creation, Write
from shared_schema.sync.outbox import append as append_events
from shared_schema.sync.restate import restate, state_of
from shared_schema.sync.restorable import find_restorable
from shared_schema.sync.rich_text import clean
from shared_schema.sync.station import Work
from shared_schema.sync.tables import outbox

Row = dict[str, Any]
QUALIFYING = ("intro_note", "pain", "next_steps")
BY_ID = Statement(select(shared_deals).where(shared_deals.c.id == bindparam("id")))
OF_DEAL = Statement(select(shared_deals).where(shared_deals.c.deal_id == bindparam("deal_id")).order_by(shared_deals.c.id))
IN_PARTNERSHIP = shared_deals.c.partnership == bindparam("partnership")
COUNT_OPEN = Statement(select(func.count()).select_from(shared_deals).where(IN_PARTNERSHIP, *LIVING_OPEN))
STANDING = Statement(select(partnerships.c.status, partnerships.c.peer_name).where(partnerships.c.id == bindparam("partnership")))
COLUMNS = tuple(shared_deals.c.keys())
SHARE_AGAIN = "share it again: that makes a new registration which names this one"


async def load_shared_deal(tx: AsyncConnection, shared_deal_id: int) -> Row:
    """A registration's row by the id that people see; raises NotFound."""
    found = await BY_ID.fetch(tx, {"id": shared_deal_id})
    if not found:
        raise NotFound("shared deal", shared_deal_id)
    return dict(zip(COLUMNS, found[0], strict=True))


async def open_shared_deal(tx: AsyncConnection, shared_deal_id: int) -> Row:
    """A registration that is still shared; raises WrongState if sharing has stopped."""
    row = await kept_shared_deal(tx, shared_deal_id)
    if row["status"] == "unshared":
        raise WrongState("this deal is no longer shared", remedy=SHARE_AGAIN)
    return row


async def kept_shared_deal(tx: AsyncConnection, shared_deal_id: int) -> Row:
    """A registration of which this side has its copy, whether it is shared still or not; raises WrongState for an erased one."""
    row = await load_shared_deal(tx, shared_deal_id)
    if row["status"] == "erased":
        raise WrongState("this deal is erased", remedy=SHARE_AGAIN)
    return row


def is_living(row: Row) -> bool:
    """Whether a registration is open and its deal not deleted."""
    return row["status"] in OPEN and row["state"] not in GONE


async def list_registrations(tx: AsyncConnection, deal_id: int) -> list[Row]:
    """A deal's registrations, oldest first."""
    return [dict(zip(COLUMNS, row, strict=True)) for row in await OF_DEAL.fetch(tx, {"deal_id": deal_id})]


def check_qualifying(details: Mapping[str, Any]) -> Row:
    """Intro note, pain and next steps: all required."""
    return {name: clean(name, details.get(name) or "") for name in QUALIFYING}


async def check_partnership(tx: AsyncConnection, partnership: str) -> None:
    """Raises WrongState where the partnership has ended: nobody would ever read what is shared in it."""
    status, peer_name = (await STANDING.fetch(tx, {"partnership": partnership}))[0]
    if status == "terminated":
        raise WrongState(f"the partnership with {peer_name} was revoked", field="partnership", remedy="begin another one first")


async def check_capacity(tx: AsyncConnection, partnership: str) -> None:
    """Raises WrongState where the partner has as many open registrations as the policy allows."""
    limit = (await load_policy(tx, partnership)).capacity
    count = (await COUNT_OPEN.fetch(tx, {"partnership": partnership}))[0][0]
    if count >= limit:
        raise WrongState(
            f"the partnership has {count} open registrations of at most {limit}",
            field="partnership",
            remedy="withdraw one or wait for a decision, or ask the vendor to raise the limit",
            link="/api/shared-deals?status=active",
        )


async def share(work: Work, partnership: str, deal_id: int, company: Row, contact: Row, details: Mapping[str, Any]) -> int:
    """Register a deal with a partnership; the new shared deal's id. `details`: the qualifying information, `products` and
    `requested_rep`. The checks of its kind are its caller's."""
    said = {
        **check_qualifying(details),
        "requested_rep": details.get("requested_rep"),
        "submission": {"at": work.incarnation.next_stamp().physical, "round": 1},
    }
    opening = Opening("deal.shared", company, contact, said, details.get("products") or [])
    return await register(work, partnership, await hold_deal(work.tx, deal_id), opening)


class Opening(NamedTuple):
    """What a new registration tells the peer: the event's type, the customer, what its side says in the registration's own fields, the
    product lines, and shared fields of the deal that are to be other than the deal's own."""

    type: str
    company: Row
    contact: Row
    said: Row
    products: Any = ()
    instead: Mapping[str, Any] = MappingProxyType({})


async def register(work: Work, partnership: str, deal: Row, opening: Opening) -> int:
    """A registration of this deal, which its caller holds, in a partnership, whatever others it has; the new shared deal's id."""
    await check_partnership(work.tx, partnership)
    await check_capacity(work.tx, partnership)
    previous = await check_not_shared(work.tx, partnership, deal["id"])
    registration = work.incarnation.new_uid()
    shared_deal_id = await insert_row(work, partnership, deal["id"], registration)
    company, contact = opening.company, opening.contact
    fields = {
        "initiated_by": work.side,
        "domain": company.get("domain"),
        "company": {name: company.get(name) for name in ("name", "domain", "country", "industry") if company.get(name)} or None,
        "contact": {name: contact.get(name) for name in ("name", "email", "phone") if contact.get(name)} or None,
        "previous": previous,
        **opening.said,
    }
    creations = [Creation(registration, "registration", None, registration)]
    writes = [Write(registration, name, value) for name, value in fields.items() if value is not None]
    creations.append(Creation(deal_uid(registration), "deal", registration, registration))
    shown = {**describe_deal(work.side, deal), **opening.instead}
    writes += [Write(deal_uid(registration), name, value) for name, value in shown.items() if value is not None]
    for uid, line in read_products(registration, opening.products):
        creations.append(Creation(uid, "product", registration, registration))
        writes += [Write(uid, name, value) for name, value in line.items()]
    await work.capture(partnership, registration, opening.type, writes, creations)
    return shared_deal_id


async def load_customer(tx: AsyncConnection, deal: Row) -> tuple[Row, Row]:
    """The company and the contact that a deal is shared with. Raises WrongState that names what is missing, and where to add it."""
    if deal["deleted_ms"] is not None:
        raise WrongState("this deal is deleted", remedy="restore it first")
    wanted = {"company_id": ("company", deal["company_id"]), "contact_ids": ("contact", deal["contacts"])}
    missing = {field: what for field, (what, there) in wanted.items() if not there}
    if missing:
        raise WrongState(
            f"this deal has no {' and '.join(missing.values())} yet",
            field=next(iter(missing)),
            remedy=f"add {' and '.join(f'a {what}' for what in missing.values())} to the deal, then convert it",
            link=f"/api/deals/{deal['id']}",
        )
    return await load_company(tx, deal["company_id"]), deal["contacts"][0]


async def check_not_shared(tx: AsyncConnection, partnership: str, deal_id: int) -> str | None:
    """Raises WrongState if the deal has an open registration in the partnership; the uid of an earlier, ended one."""
    previous = None
    for row in await list_registrations(tx, deal_id):
        if row["partnership"] == partnership and is_living(row):
            raise WrongState("this deal is already shared with that partner", link=f"/api/shared-deals/{row['id']}")
        if row["partnership"] == partnership:
            previous = str(row["uid"])
    return previous


async def insert_row(work: Work, partnership: str, deal_id: int, registration: str) -> int:
    """The row that ties a registration to the deal which it came from; its columns are the projection's."""
    row = {"partnership": partnership, "uid": registration, "registration": registration, "deal_id": deal_id, "status": "draft"}
    row |= {"side": work.side, "state": "alive", "created_ms": work.now_ms, "left_here": False}
    return int((await work.tx.execute(insert(shared_deals).values(row).returning(shared_deals.c.id))).scalar_one())


def describe_deal(side: str, deal: Row) -> Row:
    """The deal's columns as the shared fields of its registration."""
    stage = {"pipeline": deal["pipeline"], "stage": deal["stage"]} if deal["stage"] else None
    shared = {name: deal[name] for name in DEAL_FIELDS}
    return {**shared, f"{side}_stage": stage}


def read_products(registration: str, products: Any) -> list[tuple[str, Row]]:
    """Product lines with their uids; the same product twice is one line."""
    if not isinstance(products, Sequence) or isinstance(products, str) or not all(isinstance(each, dict) for each in products):
        raise Invalid("products", 'takes a list such as [{"sku": "CRM-PRO", "name": "CRM Professional", "quantity": "10"}]')
    lines = {}
    for each in products:
        if not isinstance(each.get("sku"), str) or not each["sku"].strip():
            raise Invalid("products", "needs a sku in every line")
        line = {"sku": each["sku"], "name": each.get("name") or each["sku"], "quantity": each.get("quantity") or "1"}
        lines[product_uid(registration, each["sku"])] = line
    return list(lines.items())


async def load_deal_record(tx: AsyncConnection, row: Row) -> SharedRecord:
    """The record of the registration's deal, locked with its own. Raises NotHereYet."""
    return await load_record(tx, row["partnership"], deal_uid(row["uid"]), row["uid"])


def read_tokens(seen: Mapping[str, Any] | None) -> dict[str, Context]:
    """The contexts of `seen` tokens by field; raises Invalid for one that this product did not issue."""
    try:
        return {name: decode_token(str(token)) for name, token in (seen or {}).items() if token is not None}
    except BadToken as error:
        raise Invalid("seen", str(error)) from error


async def delete_for_both(work: Work, shared_deal_id: int, seen: Mapping[str, Any] | None) -> Captured:
    """Delete the deal on both sides. What the deletion covers is what its author was shown: `seen`, tokens by field; without tokens,
    what is stored. Something unseen makes the deletion contested instead."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    deal = await load_deal_record(work.tx, row)
    if deal.state == "deleted":
        raise WrongState("the deal is deleted already", remedy="restore it if it should live")
    shown = read_tokens(seen) if seen else None
    life_seen = (shown or {}).pop(LIFE, None)
    writes = [Write(deal.uid, LIFE, deal.deletion(shown), life_seen)]
    return await work.capture(row["partnership"], row["uid"], "deal.deleted", writes)


async def restore(work: Work, shared_deal_id: int) -> Captured:
    """Bring a deleted or contested deal back: a write that has seen the deletions. Of a deal that is no longer shared it brings back this
    side's copy; the peer ignores it."""
    row = await kept_shared_deal(work.tx, shared_deal_id)
    deal = await load_deal_record(work.tx, row)
    await check_restorable(work, deal)
    return await work.capture(row["partnership"], row["uid"], "deal.restored", [Write(deal.uid, LIFE, ALIVE)])


async def check_restorable(work: Work, record: SharedRecord) -> None:
    """Raises WrongState for what lives, and for what was deleted too long ago. A contested deletion waits for a word however long."""
    if record.state == "contested":
        return
    if record.state != "deleted":
        raise WrongState(f"this {record.kind} is not deleted")
    days = work.keeping.trash_days
    if not await find_restorable(work.tx, record.partnership, [record], work.now_ms, days):
        raise WrongState(f"this {record.kind} was deleted more than {days} days ago", remedy="create it anew")


async def delete_anyway(work: Work, shared_deal_id: int) -> Captured:
    """Settle a contested deletion by deleting: it covers everything stored now."""
    row = await kept_shared_deal(work.tx, shared_deal_id)
    deal = await load_deal_record(work.tx, row)
    if deal.state != "contested":
        raise WrongState("no deletion of this deal is contested", remedy="delete it for both instead")
    return await work.capture(row["partnership"], row["uid"], "deal.deleted", [Write(deal.uid, LIFE, deal.deletion())])


async def unshare(work: Work, shared_deal_id: int) -> Captured:
    """Stop sharing, for good: rows not yet numbered are withdrawn, both keep their copies; what waited here for a parent waits no more."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    registration = await load_record(work.tx, row["partnership"], row["uid"])
    orphans = parking.read_rows(row["partnership"], await parking.take_orphans(work.tx, row["partnership"], {row["uid"]}))
    told = [answer(event, *(Outcome(event.id, "ignored", "unshared", each.uid) for each in event.data.records)) for _, event, *_ in orphans]
    await append_events(work.tx, make_answers(work.incarnation, row["partnership"], told), work.now_ms)
    await take_debts_back(work, registration)
    flag = [Write(row["uid"], UNSHARED, {"at": work.now_ms, "by": work.side})]
    captured = await work.capture(row["partnership"], row["uid"], "deal.unshared", flag)
    await withdraw_unnumbered(work, row, str(captured.event))
    return captured


async def take_debts_back(work: Work, registration: SharedRecord) -> None:
    """What is owed of a registration is owed no longer, but for what outlasts its sharing: erasures, and that this side has left."""
    partnership, uid = registration.partnership, registration.uid
    if uid not in await owed_states.forgive(work.tx, partnership, uid):
        return
    state = state_of(registration)
    held = uid in {each for each, _ in await find_held(work.tx, partnership, "out")}
    fields = {name: register for name, register in state.fields.items() if name in KEPT_WHEN_UNSHARED}
    erased_fields = () if held else state.erased_fields
    if fields or erased_fields:
        kept = RecordChange(uid, state.kind, state.parent, state.registration, state.side, fields, erased_fields=erased_fields)
        await append_events(work.tx, [restate(work.incarnation, partnership, (kept,))], work.now_ms)


async def withdraw_unnumbered(work: Work, row: Row, unsharing: str) -> None:
    """Take back what was not sent yet, but not what outlasts the sharing; the people who came along are the partnership's, and are told all
    the same. While the brake holds the unsharing (an event), what it holds besides is the same person's to decide."""
    of_registration = (in_partnership(outbox, row["partnership"]), outbox.c.registration == row["uid"])
    unnumbered = (*of_registration, outbox.c.epoch.is_(None), outbox.c.answers.is_(None))
    columns = (outbox.c.id, outbox.c.event, outbox.c.held, outbox.c.payload)
    found = (await work.tx.execute(select(*columns).where(*unnumbered).order_by(outbox.c.id).with_for_update())).all()
    waits = any(each.event == unsharing and each.held for each in found)
    said = {each.id: decode_event(each.payload.encode()).data.records for each in found if not (waits and each.held)}
    gone = {id: changes for id, changes in said.items() if not all(is_partnerships(each) or outlasts_sharing(each) for each in changes)}
    await work.tx.execute(delete(outbox).where(Among(outbox.c.id, "gone")), {"gone": sorted(gone)})
    people = {change.uid for changes in gone.values() for change in changes if is_partnerships(change)}
    await owed_states.owe(work.tx, row["partnership"], people)
    work.woken.add("owed")


def is_partnerships(change: RecordChange) -> bool:
    """Whether it is of the whole partnership, as people are."""
    return change.registration is None


async def leave(work: Work, shared_deal_id: int) -> Captured:
    """Delete for me: this side's copy leaves its lists; the other side keeps its own and is told. A deal that is shared with others, too,
    stays for them."""
    row = await load_shared_deal(work.tx, shared_deal_id)
    captured = await work.capture(
        row["partnership"], row["uid"], "deal.left", [Write(row["uid"], f"{work.side}_left", {"at": work.now_ms})]
    )
    staying = [each for each in await list_registrations(work.tx, row["deal_id"]) if is_living(each) and not each["left_here"]]
    if not staying:
        await work.tx.execute(update(deals).where(deals.c.id == row["deal_id"]).values(deleted_ms=work.now_ms))
    return captured


async def come_back(work: Work, shared_deal_id: int) -> Captured:
    """Take *delete for me* back: this side's copy, which went on syncing, is in its lists again, and the other side is told."""
    row = await load_shared_deal(work.tx, shared_deal_id)
    if not row["left_here"]:
        raise WrongState("this side has not left this deal", remedy="restore it if it was deleted for both")
    if row["status"] == "erased":
        raise WrongState("this deal is erased", remedy="share a new one")
    value = {"at": work.now_ms, "back": True}
    captured = await work.capture(row["partnership"], row["uid"], "deal.restored", [Write(row["uid"], f"{work.side}_left", value)])
    if row["state"] != "deleted":
        await work.tx.execute(update(deals).where(deals.c.id == row["deal_id"]).values(deleted_ms=None))
    return captured


async def withdraw(work: Work, shared_deal_id: int, reason: str | None) -> Captured:
    """The partner takes its registration back."""
    if work.side != "partner":
        raise NotAllowed("a withdrawal is the partner's", remedy="revoke the registration instead")
    row = await open_shared_deal(work.tx, shared_deal_id)
    if row["status"] not in OPEN:
        raise WrongState(f"this registration is {row['status']} and can not be withdrawn")
    value = {"at": work.now_ms, "reason": reason}
    return await work.capture(row["partnership"], row["uid"], "registration.withdrawn", [Write(row["uid"], "withdrawal", value)])


async def submit_again(work: Work, shared_deal_id: int, details: Mapping[str, Any]) -> Captured:
    """The partner answers *action required* with better qualifying information; the vendor decides anew."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    if work.side != "partner":
        raise NotAllowed("a submission is the partner's", remedy="decide on the registration instead")
    if row["status"] != "action required":
        raise WrongState(f"this registration is {row['status']}; only one with action required is submitted again")
    registration = await load_record(work.tx, row["partnership"], row["uid"])
    submission = {"at": work.now_ms, "round": round_of(registration.document, "submission") + 1}
    writes = [Write(row["uid"], name, value) for name, value in {**check_qualifying(details), "submission": submission}.items()]
    return await work.capture(row["partnership"], row["uid"], "registration.submitted", writes)
