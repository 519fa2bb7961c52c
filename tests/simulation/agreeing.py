"""What people do when a history is over and quiet: they discard what nobody can read, and ask both sides to compare all that they share."""

from shared_schema.sync import dead_letters, verification
from tests.checker import demand
from tests.simulation.actor import Actor, count
from tests.simulation.world import World


async def agree(world: World) -> None:
    """After quiet a verification by either side finds nothing that differs, once people have discarded what nobody can read."""
    await discard_poison(world)
    for partner in world.partners:
        asking = world.random.choice((partner, world.vendor))
        partnership = world.partnership_of(partner)
        interrupted = None
        while interrupted != count_interruptions(world, asking):
            interrupted = count_interruptions(world, asking)
            torn_again = world.torn and world.count_restores(world.partner)  # then what was repaired may have gone with its store
            repair = world.play_ended_early or bool(torn_again)  # what a play tore out and did not repair is missing still
            await begin_verification(world, asking, repair=repair, partnership=partnership)
            await world.until(lambda by=asking, at=partnership, was=interrupted: is_verified(world, by, at, was), "the verification ends")
            await world.settle()
        named = "SELECT uid, ours, theirs FROM drifts WHERE partnership = ? AND looks >= 2"
        drift = asking.rows(named, partnership)
        demand(not drift, f"{asking.name}: a verification finds that these differ: {drift}")
    await discard_poison(world)  # a topic that is read once more brings it once more


async def begin_verification(world: World, actor: Actor, *, repair: bool, partnership: str = "") -> None:
    among = partnership or world.partnership
    await actor.act("verify", lambda work: verification.request(work, among, repair=repair))


async def discard_poison(world: World) -> None:
    for actor in world.actors:
        for (letter,) in actor.rows("SELECT id FROM parked WHERE reason IN ('malformed', 'oversized', 'newer_major') ORDER BY id"):
            await actor.act("discard", lambda work, at=letter: dead_letters.discard(work, at, "no sense in it"), free=True)


def count_interruptions(world: World, actor: Actor) -> tuple[int, int]:
    """What makes a verification worthless while it goes on: a request goes with a store that goes back; what its repair sends and a brake
    holds is a difference until a person says a word."""
    return world.count_restores(actor), sum(count(each, "journal", "what = 'brake release'") for each in world.actors)


def is_verified(world: World, actor: Actor, partnership: str, interrupted: tuple[int, int]) -> bool:
    done = count(actor, "verifications", f"phase = 'done' AND partnership = '{partnership}'")
    return bool(done) or world.count_restores(actor) != interrupted[0]
