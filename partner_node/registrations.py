"""The partner registers deals with a vendor: from a contact, from a company, or from a deal that it has already."""

from collections.abc import Mapping
from typing import Any

from shared_schema.contract.records import DEAL_FIELDS
from shared_schema.crm.customers import load_company, load_contact
from shared_schema.crm.deals import add_deal, hold_deal
from shared_schema.crm.problems import Invalid
from shared_schema.sync import partnerships
from shared_schema.sync.registrations import check_qualifying, load_customer, share
from shared_schema.sync.station import Work

Row = dict[str, Any]
DETAILS = (*DEAL_FIELDS, "pipeline", "stage", "owner_id", "properties")


async def share_from_contact(
    work: Work, partnership: str | None, contact_id: int, deal: Mapping[str, Any], details: Mapping[str, Any]
) -> int:
    """Create a deal for a contact and register it; the shared deal's id. `details` as in `share`."""
    chosen = await check_asked(work, partnership, details)
    contact = await load_contact(work.tx, contact_id)
    company = await load_company(work.tx, contact["company_id"]) if contact["company_id"] else {}
    deal_id = await create(work, deal, company.get("id"), contact_id)
    return await share(work, chosen, deal_id, company, contact, details)


async def share_from_company(
    work: Work, partnership: str | None, company_id: int, deal: Mapping[str, Any], details: Mapping[str, Any]
) -> int:
    """Create a deal for a company and register it; the shared deal's id. `deal` may name one of the company's contacts as contact_id."""
    chosen = await check_asked(work, partnership, details)
    company = await load_company(work.tx, company_id)
    contact_id = deal.get("contact_id")
    contact = await load_contact(work.tx, contact_id) if contact_id is not None else {}
    if contact and contact["company_id"] != company["id"]:
        raise Invalid("contact_id", f"names somebody of another company than {company['name']}")
    deal_id = await create(work, {name: value for name, value in deal.items() if name != "contact_id"}, company_id, contact_id)
    return await share(work, chosen, deal_id, company, contact, details)


async def convert_deal(work: Work, partnership: str | None, deal_id: int, details: Mapping[str, Any]) -> int:
    """Register an existing deal; the shared deal's id. Raises WrongState that names a missing company or contact and where to add it."""
    chosen = await check_asked(work, partnership, details)
    deal = await hold_deal(work.tx, deal_id)
    company, contact = await load_customer(work.tx, deal)
    return await share(work, chosen, deal["id"], company, contact, details)


async def check_asked(work: Work, partnership: str | None, details: Mapping[str, Any]) -> str:
    """The partnership meant; raises Invalid before anything is created."""
    chosen = await partnerships.choose(work.tx, partnership)
    check_qualifying(details)
    return chosen


async def create(work: Work, deal: Mapping[str, Any], company_id: int | None, contact_id: int | None) -> int:
    """The deal that is to be registered, in this CRM."""
    for name in deal:
        if name not in DETAILS:
            raise Invalid(name, f"is no deal detail; there are {', '.join(DETAILS)}")
    values = {"owner_id": work.author.user_id, **deal, "company_id": company_id}
    values["contact_ids"] = [contact_id] if contact_id is not None else []
    return await add_deal(work.tx, values, work.author.user_id, work.now_ms)
