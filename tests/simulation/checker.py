"""What must hold after a history: the stores' promises, what the clients were told, and that nothing crossed that should not."""

from collections import Counter
from collections.abc import Iterable, Iterator

from shared_schema.contract.documents import Document
from shared_schema.contract.topics import record_topic
from tests.checker import (
    check_stores,
    demand,
    dots,
    dropped_here,
    is_cleared,
    is_erased,
    is_overwritten,
    partnerships_of,
    records,
    refused_dots,
    taken_back,
    unshared_registrations,
)
from tests.simulation.actor import Actor
from tests.simulation.deeds import MARK, Deed, Dot
from tests.simulation.template import SECRET, secret_of
from tests.simulation.world import Attempt, World

# Commands of the scripts that write what is this side's own, or ask for something.
SILENT = {"private", "deal", "own deal", "verify", "release out", "release in", "discard", "resume", "replay"}
SILENT |= {"confirm", "suspended", "active", "lead recipient", "accept", "merge", "merge companies", "merge contacts"}

# Saves of the workload that cover whatever is stored.
TOKENLESS = {"save named", "take over"}


def check(world: World) -> None:
    """Raises Broken."""
    restored = {world.by_name[name].side for name in world.known_before}
    for partner in world.partners:
        check_stores(partner, world.vendor, restored)
        check_apart(world, partner)
    check_private(world)
    check_refusals(world)
    check_deeds(world)
    check_saves(world)
    check_reps(world)


def check_refusals(world: World) -> None:
    """Honest nodes are never refused: nothing is but what was forged."""
    for actor in world.actors:
        refused = [row for row in actor.rows("SELECT uid, field, reason, event FROM refusals") if row[3] not in world.forged]
        demand(not refused, f"{actor.name} refused what was honest: {refused}")


def check_private(world: World) -> None:
    """A private note's text is in no record of the broker, was in no outbox, and is nowhere in another node's store."""
    for topic, log in world.cluster.logs.items():
        demand(not any(SECRET.encode() in (each.value or b"") for each in log.records), f"a private note is in {topic}")
    for actor in world.actors:
        removed = actor.rows("SELECT 1 FROM removed_rows WHERE payload LIKE ?", f"%{SECRET}%")
        demand(not removed, f"a private note was in the outbox of the {actor.name}")
        stored = read_whole(actor)
        erased = any(deed.name == "erase deal" and deed.who == actor.name for deed in world.deeds)
        demand(erased or secret_of(actor.name).encode() in stored, f"the {actor.name} has lost its own private note")
        for other in world.actors:
            told = other is not actor and secret_of(other.name).encode() in stored
            demand(not told, f"a private note of the {other.name} is in the store of the {actor.name}")


def check_apart(world: World, partner: Actor) -> None:
    """Of what is shared with one partner nothing is with another: not its partnership's name, and no text of a note or comment."""
    own = world.partnership_of(partner)
    foreign = {world.partnership_of(other) for other in world.partners} - {own}
    theirs = [*foreign, *(text for deed in world.deeds if any(dot.partnership in foreign for dot in deed.written) for text in deed.texts)]
    logs = [world.cluster.logs[record_topic(own, side)] for side in ("partner", "vendor")] if foreign else []
    stored, sent = read_whole(partner), b"".join(each.value or b"" for log in logs for each in log.records)
    for other in theirs:
        demand(other.encode() not in stored, f"{partner.name} knows of {other}")
        demand(other.encode() not in sent, f"{other} is in a topic of {own}")


def read_whole(actor: Actor) -> bytes:
    """The bytes of a store."""
    files = (actor.path, actor.path.with_name(actor.path.name + "-wal"))
    return b"".join(each.read_bytes() for each in files if each.exists())


def check_deeds(world: World) -> None:
    """What commands wrote whose clients were told that it is done is there: on both sides where it is shared, and once. But for what a
    person took back or refused where a brake held it, and for what is lost by right when a store goes back: what no other store had any
    more, and of what is no longer shared, whatever was written since the copy."""
    done = [deed for deed in world.deeds if deed.answered]
    for deed in done:
        wrote = [each for each in deed.written if each.field == "body"]
        demand(len(deed.texts) <= len(wrote), f"{deed.who} was told that a text is added, and it was not written: {deed}")
        again = deed.free or not deed.first or bool(world.known_before)  # it may be so already, even by a store that went back
        if not again and deed.name not in SILENT:
            demand(bool(deed.written or deed.events), f"{deed.who} was told that it is done, and nothing was written: {deed}")
    written = [(deed, dot) for deed in done for dot in deed.written if dot not in deed.lost]
    unshared = unshared_registrations(*world.actors)
    taken = {event for actor in world.actors for event in taken_back(actor)}
    for actor in world.actors:
        check_texts(actor)
        own = partnerships_of(actor)
        those = [(deed, dot) for deed, dot in written if dot.partnership in own and taken.isdisjoint(deed.events)]
        for deed, dot in find_missing(world, actor, those, unshared):
            demand(False, f"{actor.name} does not know what was acknowledged: {dot} of {deed}")


def check_texts(actor: Actor) -> None:
    """Each text that was added is one note or comment."""
    found = set(actor.rows("SELECT partnership, uid, value FROM property_history WHERE field = 'body' AND value LIKE ?", f"%{MARK}%"))
    twice = {text: times for text, times in Counter(text for _, _, text in found).items() if times > 1}
    demand(not twice, f"{actor.name} has texts more than once: {twice}")


def find_missing(world: World, actor: Actor, written: Iterable[tuple[Deed, Dot]], unshared: set[str]) -> Iterator[tuple[Deed, Dot]]:
    """The writes that a store does not know. A store that went back gets whole states, and not the history."""
    found = records(actor)
    everywhere = {place: row for each in world.actors for place, row in records(each).items()}
    known = {each[:5] for each in dots(actor, partnerships_of(actor))}
    refused = {each[:5] for other in world.actors if other is not actor for each in refused_dots(other)}
    dropped = {uid for other in world.actors for uid in dropped_here(actor, other)}
    for deed, dot in written:
        row = everywhere.get(dot[:2])
        owed = deed.who == actor.name and actor.name not in world.known_before
        apart = (not owed and row is not None and row[3] in unshared) or (deed.who != actor.name and dot in refused)
        gone = is_erased(found, dot) or is_cleared(found, dot)
        whole = actor.name in world.known_before or dot.uid in dropped or (row is not None and row[1] == "person")
        if not (dot in known or apart or gone or (whole and is_overwritten(found, (*dot, None)))):
            yield deed, dot


def check_saves(world: World) -> None:
    """Every acknowledged save is known to both sides and stands as a sibling, unless somebody saved who had it in view, or over all that is
    stored. A store that went back gets whole states: of what was overwritten by then it knows that it was written, and not what; and
    nothing of what is no longer shared."""
    lost = {dot for deed in world.deeds for dot in deed.lost}
    sure = [each for each in world.attempted if each.dot is not None and (*each[1:4], *each.dot) not in lost]
    blind = [Attempt(deed.who, *each) for deed in world.deeds if deed.name in TOKENLESS for each in deed.blind]
    seen = [*world.attempted, *blind]
    registrations = {place: row[3] for other in world.actors if sure for place, row in records(other).items()}
    for actor in world.actors if sure else ():
        found, own = records(actor), partnerships_of(actor)
        known = {each[:5] for each in dots(actor, own)}
        unshared = {uid for other in world.actors for uid in unshared_registrations(other)}
        for save in sure:
            shared = registrations.get((save.partnership, save.uid)) not in unshared
            dot = (*save[1:4], *(save.dot or ()), None)
            gone = is_erased(found, dot) or is_cleared(found, dot)
            went_back = actor.name in world.known_before
            if save.partnership in own and (shared or (save.who == actor.name and not went_back)) and not gone:
                whole = went_back and is_overwritten(found, dot)
                demand(dot[:5] in known or whole, f"{actor.name} does not know an acknowledged save: {save}")
                register = Document.decode(found[save.partnership, save.uid][5]).get(save.field)
                standing = {(sibling.dot.incarnation, sibling.dot.counter) for sibling in register.siblings}
                held = save.dot in standing or any(is_covered(save, other) for other in seen)
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
