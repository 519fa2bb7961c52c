"""The checker, always the same: both stores agree, nothing acknowledged is lost, nothing was called applied that was not."""

import json
from typing import Any

from shared_schema.contract.codec import decode_event
from shared_schema.contract.documents import Document
from shared_schema.contract.records import is_one_way
from shared_schema.contract.registers import differs
from shared_schema.contract.registration import is_active, status_of
from tests.simulation.script import SECRET
from tests.simulation.world import Actor, World
from vendor_node.assignment import decide_again


class Broken(AssertionError):
    """A promise was broken; the text says which."""


def check(world: World) -> None:
    """Raises Broken."""
    unshared = unshared_registrations(world)
    check_same_records(world, unshared)
    check_same_history(world, unshared)
    for actor, peer in ((world.partner, world.vendor), (world.vendor, world.partner)):
        check_removed(actor, peer)
        check_conflict_index(actor)
        check_statuses(actor)
        demand(not actor.rows("SELECT * FROM parked"), f"{actor.side}: something is still parked")
    check_assignments(world.vendor)
    check_private(world)


def demand(held: bool, promise: str) -> None:
    if not held:
        raise Broken(promise)


def unshared_registrations(world: World) -> set[str]:
    found = [actor.rows("SELECT uid FROM shared_deals WHERE status = 'unshared'") for actor in world.actors]
    return {uid for rows in found for (uid,) in rows}


def records(actor: Actor) -> dict[str, tuple[Any, ...]]:
    rows = actor.rows("SELECT uid, kind, parent, registration, side, document, state, hash FROM shared_records")
    return {row[0]: row for row in rows}


def check_same_records(world: World, unshared: set[str]) -> None:
    ours, theirs = records(world.partner), records(world.vendor)
    for uid in sorted(ours.keys() | theirs.keys()):
        row = ours.get(uid) or theirs[uid]
        if row[3] not in unshared:
            demand(ours.get(uid) == theirs.get(uid), f"the stores differ in {row[1]} {uid}: {ours.get(uid)} | {theirs.get(uid)}")


def dots(actor: Actor) -> set[tuple[Any, ...]]:
    return set(actor.rows("SELECT uid, field, incarnation, counter, value FROM property_history"))


def check_same_history(world: World, unshared: set[str]) -> None:
    """Both sides know every write of either: none is lost, none is known to one side only."""
    outside = {uid for actor in world.actors for uid, row in records(actor).items() if row[3] in unshared}
    lost = {each for each in dots(world.partner) ^ dots(world.vendor) if each[0] not in outside}
    demand(not lost, f"writes that only one side knows: {sorted(lost)[:5]}")


def check_removed(actor: Actor, peer: Actor) -> None:
    """What left an outbox as applied is in the peer's history, or the peer said what became of it."""
    known = {each[:4] for each in dots(peer)}
    told = {event for (event,) in actor.rows("SELECT event FROM peer_outcomes")}
    for event, payload in actor.rows("SELECT event, payload FROM removed_rows"):
        if event in told:
            continue
        for change in decode_event(payload.encode()).data.records:
            for name, register in change.fields.items():
                for sibling in register.siblings:
                    place = (change.uid, name, sibling.dot.incarnation, sibling.dot.counter)
                    demand(
                        place in known or withdrawn(actor, change.registration), f"called applied, but {peer.side} never had it: {place}"
                    )


def withdrawn(actor: Actor, registration: str | None) -> bool:
    """Whether unsharing withdrew rows of it."""
    return bool(actor.rows("SELECT 1 FROM shared_deals WHERE uid = ? AND status = 'unshared'", registration))


def check_conflict_index(actor: Actor) -> None:
    """The list of conflicts is what the registers say; no concurrent write vanished without one."""
    said = {(uid, field) for uid, field in actor.rows("SELECT uid, field FROM conflicts")}
    real = set()
    for uid, row in records(actor).items():
        document = Document.decode(row[5])
        real |= {(uid, name) for name in document if differs(document.get(name)) and not is_one_way(row[1], name)}
    demand(said == real, f"{actor.side}: listed conflicts {said} are not the real ones {real}")


def check_statuses(actor: Actor) -> None:
    """The columns are a function of the documents."""
    for uid, status in actor.rows("SELECT uid, status FROM shared_deals"):
        document = Document.decode(records(actor)[uid][5])
        demand(status == status_of(document), f"{actor.side}: {uid} is listed as {status}, but it is {status_of(document)}")
    for body, document in actor.rows("SELECT n.body, r.document FROM shared_notes n JOIN shared_records r ON r.uid = n.uid"):
        values = [each.value for each in Document.decode(document).get("body").siblings]
        demand(body in values, f"{actor.side}: a note shows {body!r}, but it is one of {values}")


def check_assignments(vendor: Actor) -> None:
    """One automatic assignment per registration, each true to the state that it was made from, and a rep for each that is active."""
    twice = vendor.rows("SELECT registration FROM assignments WHERE automatic GROUP BY registration HAVING count(*) > 1")
    demand(not twice, f"assigned twice: {twice}")
    credits: dict[int, int] = {}
    for rep_id, explanation in vendor.rows("SELECT rep_id, explanation FROM assignments WHERE automatic ORDER BY id"):
        told = json.loads(explanation)
        stated = {each["id"]: each["credit"] for each in told["considered"]}
        demand(stated == {id: credits.get(id, 0) for id in stated}, f"an explanation names {stated}, but the rotation stood at {credits}")
        again = decide_again(told)
        demand(again.rep_id == rep_id, f"the explanation leads to {again.rep_id}, but {rep_id} was assigned")
        credits |= again.credits
    demand(
        all(credit == credits.get(id, 0) for id, credit in vendor.rows("SELECT user_id, credit FROM reps")), "the rotation moved by itself"
    )
    for uid, row in records(vendor).items():
        if row[1] == "registration" and is_active(status_of(Document.decode(row[5]))):
            demand(bool(Document.decode(row[5]).get("rep").siblings), f"{uid} is active without a rep")


def check_private(world: World) -> None:
    """A private note's text is in no record of the broker, and nowhere in the other side's store."""
    for log in world.cluster.logs.values():
        demand(not any(SECRET.encode() in (each.value or b"") for each in log.records), "a private note is in a topic")
    demand(SECRET.encode() not in world.vendor.path.read_bytes(), "a private note is in the vendor's store")
    removed = world.partner.rows("SELECT 1 FROM removed_rows WHERE payload LIKE ?", f"%{json.dumps(SECRET)[1:-1]}%")
    demand(not removed, "a private note was in the outbox")
