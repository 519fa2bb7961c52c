"""The vendor brings a partner into a deal of its own: the partner accepts or declines; without an answer in time the invitation expires."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import select

from shared_schema.contract.records import DEAL_FIELDS, InvalidValue, canonical_value
from shared_schema.contract.registration import part, status_of
from shared_schema.crm.deals import hold_deal
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import Invalid
from shared_schema.crm.projected_tables import persons
from shared_schema.crm.rows import upsert
from shared_schema.crm.shared_records import load_records
from shared_schema.sync import partnerships
from shared_schema.sync.journal import note
from shared_schema.sync.registrations import Opening, load_customer, register
from shared_schema.sync.rich_text import clean
from shared_schema.sync.station import Work
from shared_schema.sync.tables import reactions
from vendor_node.decisions import DAY_MS, write_decision

Row = dict[str, Any]


class Invitation(NamedTuple):
    """What the vendor tells a partner whom it brings in. `contact_id`: a person of the partner's as `list_people` has them, who will own
    the deal there; without one that is the partner's lead notification recipient. `confirmed`: it was asked and has time for the deal.
    `values`: shared fields that this partner gets in place of the deal's own; nothing for one that it does not get at all."""

    intro_note: str
    confirmed: bool
    contact_id: int | None = None
    values: Mapping[str, Any] = {}
    products: Any = ()


async def bring_in(work: Work, deal_id: int, partnership: str | None, invitation: Invitation) -> int:
    """Share a deal with a partner, whoever else it is shared with; the new shared deal's id. Raises Invalid or WrongState that names
    what is missing."""
    chosen = await partnerships.choose(work.tx, partnership)
    if not invitation.confirmed:
        raise Invalid("confirmed", "must be ticked: reach out to this partner first and confirm that it can work the deal")
    told: Row = {"at": work.now_ms, "confirmed": True}
    if invitation.contact_id is not None:
        told["contact"] = await find_contact(work, chosen, invitation.contact_id)
    said = {"intro_note": clean("intro_note", invitation.intro_note), "invitation": told}
    deal = await hold_deal(work.tx, deal_id)
    company, contact = await load_customer(work.tx, deal)
    opening = Opening("registration.invited", company, contact, said, invitation.products, check_instead(invitation.values))
    return await register(work, chosen, deal, opening)


async def find_contact(work: Work, partnership: str, contact_id: int) -> str:
    """The uid of an active person of the partner's."""
    where = (persons.c.id == contact_id, persons.c.partnership == partnership, persons.c.side == "partner", persons.c.active)
    found = (await work.tx.execute(select(persons.c.uid).where(*where))).scalar_one_or_none()
    if found is None:
        raise Invalid("contact_id", f"{contact_id} is nobody of this partner's", f"/api/partnerships/{partnership}/people")
    return str(found)


def check_instead(values: Mapping[str, Any]) -> Row:
    """Shared fields in the form that they travel in; None where the partner does not get one."""
    for name in values:
        if name not in DEAL_FIELDS:
            raise Invalid("values", f"takes {', '.join(DEAL_FIELDS)}, not {name}")
    try:
        return {name: None if value is None else canonical_value("deal", name, value) for name, value in values.items()}
    except InvalidValue as error:
        raise Invalid(error.field, error.remedy) from error


async def react_invitation(work: Work, partnership: str, registration: str) -> None:
    """Look at an invitation again when its time is over; one that has no answer by then expires. When that is follows from the invitation
    itself, so a store that went back and got it again knows it too."""
    record = (await load_records(work.tx, partnership, [registration])).get(registration)
    status = status_of(record.document) if record else "missing"
    if record is None or status != "invited":
        await note(work, partnership, registration, "no invitation to end", f"the registration is {status}")
        return
    days = (await load_policy(work.tx, partnership)).invitation_days
    ends_ms = int(part(record.document, "invitation", "at")) + days * DAY_MS
    if days > 0 and ends_ms <= work.now_ms:
        await write_decision(work, partnership, registration, "invitation expired", "nobody answered in time")
    elif days > 0:
        row = {"partnership": partnership, "registration": registration, "kind": "invitation", "created_ms": work.now_ms, "attempts": 0}
        await upsert(work.tx, reactions, [row | {"due_ms": ends_ms}], ("due_ms",))
