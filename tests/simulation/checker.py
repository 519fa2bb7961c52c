"""What must hold after a history: the stores' promises, what the clients were told, and that nothing crossed that should not."""

from shared_schema.contract.documents import Document
from shared_schema.contract.topics import record_topic
from tests.checker import check_stores, demand, dots, is_overwritten, partnerships_of, records, unshared_registrations
from tests.simulation.actor import Actor
from tests.simulation.template import SECRET, secret_of
from tests.simulation.world import Attempt, World


def check(world: World) -> None:
    """Raises Broken."""
    restored = {world.by_name[name].side for name in world.known_before}
    for partner in world.partners:
        check_stores(partner, world.vendor, restored)
        check_apart(world, partner)
    check_private(world)
    check_refusals(world)
    check_saves(world)
    check_reps(world)


def check_refusals(world: World) -> None:
    """Honest nodes are never refused."""
    for actor in world.actors:
        refused = actor.rows("SELECT uid, field, reason FROM refusals")
        demand(world.forged or not refused, f"{actor.name} refused what was honest: {refused}")


def check_private(world: World) -> None:
    """A private note's text is in no record of the broker, was in no outbox, and is nowhere in another node's store."""
    for topic, log in world.cluster.logs.items():
        demand(not any(SECRET.encode() in (each.value or b"") for each in log.records), f"a private note is in {topic}")
    for actor in world.actors:
        removed = actor.rows("SELECT 1 FROM removed_rows WHERE payload LIKE ?", f"%{SECRET}%")
        demand(not removed, f"a private note was in the outbox of the {actor.name}")
        files = (actor.path, actor.path.with_name(actor.path.name + "-wal"))
        stored = b"".join(each.read_bytes() for each in files if each.exists())
        demand(secret_of(actor.name).encode() in stored, f"the {actor.name} has lost its own private note")
        for other in world.actors:
            told = other is not actor and secret_of(other.name).encode() in stored
            demand(not told, f"a private note of the {other.name} is in the store of the {actor.name}")


def check_apart(world: World, partner: Actor) -> None:
    """Of what is shared with one partner nothing is with another."""
    own = world.partnership_of(partner)
    foreign = {world.partnership_of(other) for other in world.partners} - {own}
    for other in foreign:
        demand(other.encode() not in partner.path.read_bytes(), f"{partner.name} knows of {other}")
        for side in ("partner", "vendor"):
            log = world.cluster.logs[record_topic(own, side)]
            demand(not any(other.encode() in (each.value or b"") for each in log.records), f"{other} is in a topic of {own}")


def check_saves(world: World) -> None:
    """Every acknowledged save is known to both sides and stands as a sibling, unless somebody saved who had it in view. A store that went
    back gets whole states: of what was overwritten by then it knows that it was written, and not what."""
    sure = [each for each in world.attempted if each.dot is not None and each.who not in world.known_before]
    registrations = {place: row[3] for other in world.actors if sure for place, row in records(other).items()}
    for actor in world.actors if sure else ():
        found, own = records(actor), partnerships_of(actor)
        known = {each[:5] for each in dots(actor, own)}
        unshared = {uid for other in world.actors for uid in unshared_registrations(other)}
        for save in sure:
            shared = registrations.get((save.partnership, save.uid)) not in unshared
            if save.partnership in own and (save.who == actor.name or shared):
                dot = (*save[1:4], *(save.dot or ()))
                whole = actor.name in world.known_before and is_overwritten(found, (*dot, None))
                demand(dot in known or whole, f"{actor.name} does not know an acknowledged save: {save}")
                register = Document.decode(found[save.partnership, save.uid][5]).get(save.field)
                standing = {(sibling.dot.incarnation, sibling.dot.counter) for sibling in register.siblings}
                held = save.dot in standing or any(is_covered(save, other) for other in world.attempted)
                demand(held, f"{actor.name}: a save was overwritten by nobody who had seen it: {save}")


def is_covered(save: Attempt, other: Attempt) -> bool:
    """Whether another save of the same field was asked for by somebody who had this one in view."""
    same = (save.partnership, save.uid, save.field) == (other.partnership, other.uid, other.field)
    return same and save.dot is not None and other.seen.get(save.dot[0], 0) >= save.dot[1]


def check_reps(world: World) -> None:
    """A registration that had a rep when the vendor's store went back is not assigned again by itself: as far as there is a partner that
    still knew of it, because its own store did not go back afterwards."""
    for name, rows, restores in world.known_before.get("vendor", []):
        if world.count_restores(world.by_name[name]) > restores:
            continue
        had = {row[:5] for row in rows if row[2] == "rep"}
        registrations = {row[:2] for row in had}
        written = "SELECT partnership, uid, field, incarnation, counter FROM property_history WHERE field = 'rep' AND actor IS NULL"
        again = [row for row in world.by_name[name].rows(written) if row[:2] in registrations and row not in had]
        lapsing = world.vendor.rows("SELECT 1 FROM assignments WHERE turn > 1")
        demand(bool(lapsing) or not again, f"assigned again after the vendor's store went back: {again}")
