"""The vendor brings the partner in: into a deal that it accepts, and into one that nobody answers in time; and what is said of a customer
whom somebody works on already."""

from partner_node.invitations import answer
from partner_node.registrations import share_from_contact
from shared_schema.crm import customers
from shared_schema.crm.deals import add_deal
from shared_schema.sync import partnerships
from shared_schema.sync.station import Work
from tests.simulation.actor import Actor, count, shared_deal
from tests.simulation.template import DETAILS
from tests.simulation.world import World
from vendor_node.invitations import Invitation, bring_in

DAY_MS = 86_400_000


async def invite(world: World) -> None:
    partner, vendor = world.partner, world.vendor
    await vendor.act("hurry", lambda work: partnerships.change_policy(work, world.partnership, {"timers": {"invitation_days": 1}}))
    await partner.act("lead recipient", lambda work: partnerships.set_lead_recipient(work, world.partnership, 1))
    await bring(vendor, "Accepted")
    await world.until(lambda: count(partner, "shared_deals", "status = 'invited'") == 1, "the invitation is there")
    await partner.act("accept", lambda work: answer(work, shared_deal(partner, "Accepted"), "accepted"))
    await world.until(lambda: count(vendor, "shared_deals", "status = 'active' AND rep_person IS NOT NULL") == 4, "it has a rep")
    await bring(vendor, "Expired")
    await world.until(lambda: count(partner, "shared_deals", "status = 'invited'") == 1, "the other invitation is there")
    world.skews["vendor"] += 2 * DAY_MS
    await world.until(lambda: count(partner, "shared_deals", "status = 'invitation expired'") == 1, "its time is over")
    world.skews["vendor"] -= 2 * DAY_MS


async def bring(vendor: Actor, name: str) -> None:
    """A deal of the vendor's own with a new customer, and the partner brought into it."""
    deal_id = await add_prospect(vendor, name)
    await vendor.act("bring in", lambda work: bring_in(work, deal_id, None, Invitation("You know them.", confirmed=True)))


async def add_prospect(vendor: Actor, name: str) -> int:
    """The id of a deal of the vendor's own with a new customer."""

    async def add(work: Work) -> int:
        company = {"name": name, "domain": f"{name.lower()}.example", "country": "DE"}
        company_id = await customers.add_company(work.tx, company, work.now_ms)
        person = {"name": f"Head of {name}", "email": f"ceo@{name.lower()}.example", "company_id": company_id}
        contact_id = await customers.add_contact(work.tx, person, work.now_ms)
        values = {"name": name, "company_id": company_id, "contact_ids": [contact_id]}
        return await add_deal(work.tx, values, work.author.user_id, work.now_ms)

    return int(await vendor.act("own deal", add))


async def ask_twice(world: World) -> None:
    """The same customer is registered twice: whoever asks second hears that it is in progress."""
    partner = world.partner
    for name in ("Once", "Twice"):
        await partner.act("contact", lambda work, deal=name: share_from_contact(work, None, 4, {"name": deal}, DETAILS))
        await world.until(lambda: not count(partner, "shared_deals", "rep_person IS NULL"), "it has a rep")
    await world.until(lambda: "registration.checked" in world.cluster.types, "it is told")
