"""One deal of the vendor's with two partners: each has its own registration, and nothing of the other."""

from partner_node.invitations import answer
from shared_schema.sync import partnerships
from shared_schema.sync.deals import save_deal, save_shared, take_over
from shared_schema.sync.merging import merge_deals
from tests.checker import demand
from tests.simulation.actor import Actor, count, one, shared_deal
from tests.simulation.inviting import add_prospect
from tests.simulation.world import World
from vendor_node.invitations import Invitation, bring_in

SOON = Invitation("You know them.", confirmed=True)


async def share_with_several(world: World) -> None:
    """The vendor makes one deal of what two partners registered, tells one of them something and both something else, and takes what one
    of them says over for the other. Then it brings both into a deal of its own; one declines, and is brought in again."""
    await make_one_of_two(world)
    await bring_in_both(world)


async def make_one_of_two(world: World) -> None:
    partner, second, vendor = world.partner, world.second, world.vendor
    ours, theirs = (shared_deal(vendor, f"First of {name}") for name in ("partner", "second"))
    deal, merged = (one(vendor, f"SELECT deal_id FROM shared_deals WHERE id = {each}") for each in (ours, theirs))
    await vendor.act("merge", lambda work: merge_deals(work, deal, merged))
    await vendor.act("save", lambda work: save_deal(work, deal, {"next_step": "for one"}, None, {ours: {}}))
    await vendor.act("save", lambda work: save_deal(work, deal, {"name": "For both"}, None, {ours: {}, theirs: {}}))
    await partner.act("save", lambda work: save_shared(work, 1, {"close_date": "2027-02-02"}))
    await world.settle()
    for actor, told in ((partner, 1), (second, 0)):
        demand(bool(world.known_before) or count(actor, "deals", "name = 'For both'") == 1, "both are told")
        for column, value in (("next_step", "for one"), ("close_date", "2027-02-02")):
            known = count(actor, "deals", f"{column} = '{value}'")
            demand(known <= told and (bool(world.known_before) or known == told), f"{actor.name} knows {value!r} {known} times")
    await vendor.act("take over", lambda work: take_over(work, ours, ["close_date"], None, {theirs: {}}))
    await world.until(lambda: count(second, "deals", "close_date = '2027-02-02'"), "the other partner has it")


async def bring_in_both(world: World) -> None:
    partner, second, vendor = world.partner, world.second, world.vendor
    deal = await add_prospect(vendor, "Both")
    for actor in (partner, second):
        await invite_to(world, actor, deal)
    asked, other = find_invited(partner), find_invited(second)
    await partner.act("accept", lambda work: answer(work, asked, "accepted"))
    await second.act("decline", lambda work: answer(work, other, "declined", "no time"))
    declined = f"deal_id = {deal} AND status = 'declined'"
    await world.until(lambda: count(vendor, "shared_deals", declined), "one has declined")
    await invite_to(world, second, deal)
    again = find_invited(second)
    await second.act("accept", lambda work: answer(work, again, "accepted"))
    active = f"deal_id = {deal} AND status = 'active' AND rep_person IS NOT NULL"
    await world.until(lambda: count(vendor, "shared_deals", active) == 2, "both have a rep")
    for status in ("suspended", "active"):
        await vendor.act(status, lambda work, now=status: partnerships.change_status(work, world.partnership, now))


async def invite_to(world: World, actor: Actor, deal: int) -> None:
    partnership = world.partnership_of(actor)
    await world.vendor.act("bring in", lambda work: bring_in(work, deal, partnership, SOON))
    await world.until(lambda: count(actor, "shared_deals", "status = 'invited'") == 1, "the invitation is there")


def find_invited(actor: Actor) -> int:
    return int(one(actor, "SELECT id FROM shared_deals WHERE status = 'invited'"))
