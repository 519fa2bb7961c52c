"""The checker, always the same: both stores agree, nothing acknowledged is lost, nothing was called applied that was not.

It reads rows, and shares no code with what it checks beyond the contract's types and the pure assignment that it replays: what a conflict
is, and which status a registration has, it reckons itself.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from shared_schema.contract.codec import RecordChange, decode_event
from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.registers import Register
from vendor_node.assignment import decide_again

# What an outbox loses is kept, so that the checker can ask whether the peer really had it.
KEEP_REMOVED = (
    "CREATE TABLE removed_rows (event TEXT, payload TEXT)",
    "CREATE TRIGGER keep_removed AFTER DELETE ON outbox BEGIN INSERT INTO removed_rows VALUES (OLD.event, OLD.payload); END",
)
KEEP_REMOVED_POSTGRESQL = (
    "CREATE TABLE removed_rows (event TEXT, payload TEXT)",
    """CREATE FUNCTION keep_removed() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO removed_rows VALUES (OLD.event, OLD.payload); RETURN OLD; END'""",
    "CREATE TRIGGER keep_removed AFTER DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION keep_removed()",
)

ONE_WAY = {LIFE, "unshared"}  # several who set them at once have no conflict
ACTIVE = {"active", "extension pending"}
OPEN = {*ACTIVE, "submitted", "under review", "action required", "invited"}

Place = tuple[str, str]


class Broken(AssertionError):
    """A promise was broken; the text says which."""


class Store(Protocol):
    """One side's store, to look into. `rows` takes a statement of SQLite's and its parameters."""

    side: str

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]: ...


def check_stores(partner: Store, vendor: Store, restored: Collection[str] = ()) -> None:
    """Raises Broken. `restored`: the sides whose store went back on the way; what such a side wrote and nobody had yet is lost by right."""
    together = partnerships_of(partner) & partnerships_of(vendor)
    unshared = unshared_registrations(partner, vendor)
    check_same_records(partner, vendor, unshared, together)
    check_same_history(partner, vendor, unshared, together, restored)
    for store, peer in ((partner, vendor), (vendor, partner)):
        check_removed(store, peer, restored)
        check_conflict_index(store)
        check_statuses(store)
        check_counts(store)
        check_parked(store, peer, restored)
    check_assignments(vendor, vendor.side in restored)


def check_parked(store: Store, peer: Store, restored: Collection[str]) -> None:
    """Nothing waits without a cause. A discard may go with a store that went back; and what waits for a parent which went with the other
    store, before anybody had it, is all that is left of it."""
    if store.side in restored:
        return
    parked = store.rows("SELECT reason, partnership, waits_for FROM parked")
    if peer.side in restored:
        there = {*records(store), *records(peer)}
        parked = [each for each in parked if each[2] is None or each[1:] in there]
    demand(not parked, f"{store.side}: something is still parked: {parked}")


def demand(held: bool, promise: str) -> None:
    if not held:
        raise Broken(promise)


def partnerships_of(store: Store) -> set[str]:
    return {id for (id,) in store.rows("SELECT id FROM partnerships")}


def unshared_registrations(*stores: Store) -> set[str]:
    """Those that are unshared, and those that were before they were erased."""
    found = [store.rows("SELECT uid FROM shared_deals WHERE status = 'unshared'") for store in stores]
    said = [store.rows("SELECT payload FROM removed_rows WHERE payload LIKE '%\"deal.unshared\"%'") for store in stores]
    ended = {str(decode_event(payload.encode()).registration) for rows in said for (payload,) in rows}
    return ended | {uid for rows in found for (uid,) in rows}


def records(store: Store, within: Collection[str] | None = None) -> dict[Place, tuple[Any, ...]]:
    """By partnership and uid; of some partnerships, or of all."""
    rows = store.rows("SELECT partnership, uid, kind, parent, registration, side, document, state, hash FROM shared_records")
    return {row[:2]: row[1:] for row in rows if within is None or row[0] in within}


def check_same_records(partner: Store, vendor: Store, unshared: set[str], together: set[str]) -> None:
    for difference in find_differences(partner, vendor, unshared, together):
        raise Broken(difference)


def find_differences(partner: Store, vendor: Store, unshared: set[str], together: set[str]) -> Iterator[str]:
    """The records that the stores do not agree on, but for what is no longer shared."""
    ours, theirs = records(partner, together), records(vendor, together)
    for place in sorted(ours.keys() | theirs.keys()):
        row = ours.get(place) or theirs[place]
        differ = ours.get(place) != theirs.get(place) and not is_cleared_by_one(place, ours, theirs)
        if differ and row[3] not in unshared:
            yield f"the stores differ in {row[0]} {place[1]}: {ours.get(place)} | {theirs.get(place)}"


def is_cleared_by_one(place: Place, ours: Mapping[Place, tuple[Any, ...]], theirs: Mapping[Place, tuple[Any, ...]]) -> bool:
    """Whether both have the same tombstone, of which one side has let go of the content and the other not yet."""
    if place not in ours or place not in theirs or not (is_tombstone(ours[place]) or is_tombstone(theirs[place])):
        return False
    mine, other = (row[:5] + row[6:] for row in (ours[place], theirs[place]))
    return mine == other


def dots(store: Store, together: Collection[str]) -> set[tuple[Any, ...]]:
    rows = store.rows("SELECT partnership, uid, field, incarnation, counter, value FROM property_history")
    return {row for row in rows if row[0] in together}


def refused_dots(store: Store) -> set[tuple[Any, ...]]:
    """Writes of which the peer said that it refuses them: a person there dropped what the brake held."""
    said = "event IN (SELECT event FROM peer_outcomes WHERE outcome = 'refused')"
    return set(store.rows(f"SELECT partnership, uid, field, incarnation, counter, value FROM property_history WHERE {said}"))


def dropped_here(store: Store, peer: Store) -> set[str]:
    """Records of which the brake held a deletion here that a person dropped: a peer whose store went back gets its own write again in a
    state from here, under that event's name and not under the one that was refused."""
    refused = {event for (event,) in peer.rows("SELECT event FROM peer_outcomes WHERE outcome = 'refused'")}
    judged = store.rows("SELECT uid, event FROM brake_acts WHERE direction = 'in' AND NOT passed")
    return {uid for uid, event in judged if event in refused}


def is_erased(found: Mapping[Place, tuple[Any, ...]], dot: tuple[Any, ...]) -> bool:
    """Whether a write was in what is erased: nothing of that is in any history any more."""
    row = found.get(dot[:2])
    return row is not None and Document.decode(row[5]).is_erased(dot[2])


def is_cleared(found: Mapping[Place, tuple[Any, ...]], dot: tuple[Any, ...]) -> bool:
    """Whether a write was in what was deleted so long ago that its content went, and its history."""
    return dot[:2] in found and is_tombstone(found[dot[:2]])


def is_tombstone(row: tuple[Any, ...]) -> bool:
    document = Document.decode(row[5])
    return bool(row[6] == "deleted") and not any(document.get(name).siblings for name in document if name != LIFE)


def check_same_history(partner: Store, vendor: Store, unshared: set[str], together: set[str], restored: Collection[str] = ()) -> None:
    for unknown in find_unknown(partner, vendor, unshared, together, restored):
        raise Broken(unknown)


def find_unknown(partner: Store, vendor: Store, unshared: set[str], together: set[str], restored: Collection[str] = ()) -> Iterator[str]:
    """Both sides know every write of either: none is lost, none is known to one side only. A store that went back gets whole states and not
    the history: what it lacks was overwritten by somebody who had it in view. So do people, who came along in what unsharing withdrew."""
    all_records = {store.side: records(store, together) for store in (partner, vendor)}
    outside = {uid for found in all_records.values() for (_, uid), row in found.items() if row[3] in unshared}
    for store, peer in ((partner, vendor), (vendor, partner)):
        lost = {each for each in dots(peer, together) - dots(store, together) - refused_dots(peer) if each[1] not in outside}
        lost = {each for each in lost if not is_erased(all_records[store.side], each)}
        lost = {each for each in lost if not is_cleared(all_records[store.side], each)}
        whole = {uid for (_, uid), row in all_records[store.side].items() if store.side in restored or row[1] == "person"}
        whole |= dropped_here(store, peer) if peer.side in restored else set()
        lost = {each for each in lost if each[1] not in whole or not is_overwritten(all_records[store.side], each)}
        yield from (f"{store.side} does not know a write that {peer.side} has: {each}" for each in sorted(lost))


def is_overwritten(found: Mapping[Place, tuple[Any, ...]], dot: tuple[Any, ...]) -> bool:
    """Whether a write stands in the register's context and is no sibling any more."""
    partnership, uid, field, incarnation, counter, _ = dot
    if (partnership, uid) not in found:
        return False
    register = Document.decode(found[partnership, uid][5]).get(field)
    standing = {(each.dot.incarnation, each.dot.counter) for each in register.siblings}
    return register.context.get(incarnation, 0) >= counter and (incarnation, counter) not in standing


def check_removed(store: Store, peer: Store, restored: Collection[str] = ()) -> None:
    for told in find_wrongly_told(store, peer, restored):
        raise Broken(told)


def find_wrongly_told(store: Store, peer: Store, restored: Collection[str] = ()) -> Iterator[str]:
    """What left an outbox as applied is in the peer's history, or the peer said what became of it; or, where the peer's store went back,
    it was overwritten by somebody who had it in view. What is not so."""
    together = partnerships_of(store) & partnerships_of(peer)
    known = {each[:5] for each in dots(peer, together)}
    stored = records(peer, together)
    told = {event for (event,) in store.rows("SELECT event FROM peer_outcomes")}
    told |= taken_back(store)
    for event, payload in store.rows("SELECT event, payload FROM removed_rows"):
        if event in told:
            continue
        decoded = decode_event(payload.encode())
        if decoded.partnership in together:
            for change in decoded.data.records:
                yield from find_unheard(change, Between(decoded.partnership, store, peer, restored), known, stored)


def taken_back(store: Store) -> set[str]:
    """Events that the brake held and a person took back: they never left, and their writes are in no history."""
    judged = "SELECT event FROM brake_acts WHERE direction = 'out' AND NOT passed"
    written = {event for (event,) in store.rows("SELECT event FROM property_history")}
    return {event for (event,) in store.rows(judged)} - written


class Between(NamedTuple):
    """One direction of one partnership."""

    partnership: str
    store: Store
    peer: Store
    restored: Collection[str]


def find_unheard(change: RecordChange, between: Between, known: set[tuple[Any, ...]], stored: Any) -> Iterator[str]:
    partnership, store, peer, restored = between
    for name, register in change.fields.items():
        for sibling in register.siblings:
            place = (partnership, change.uid, name, sibling.dot.incarnation, sibling.dot.counter)
            held = place in known or is_erased(stored, place) or is_cleared(stored, place) or withdrawn(store, change.registration)
            whole = peer.side in restored or change.kind == "person"
            held = held or (whole and is_overwritten(stored, (*place, None)))
            if not held:
                yield f"called applied, but {peer.side} never had it: {place}"


def withdrawn(store: Store, registration: str | None) -> bool:
    """Whether unsharing withdrew rows of it."""
    return registration in unshared_registrations(store)


def holds_several(register: Register) -> bool:
    """Whether the siblings are not all of one value."""
    return len({json.dumps(each.value, sort_keys=True) for each in register.siblings}) > 1


def check_conflict_index(store: Store) -> None:
    """The list of conflicts is what the registers say; no concurrent write vanished without one."""
    said = {(uid, field) for uid, field in store.rows("SELECT uid, field FROM conflicts")}
    real = set()
    for (_, uid), row in records(store).items():
        document = Document.decode(row[5])
        real |= {(uid, name) for name in document if name not in ONE_WAY and holds_several(document.get(name))}
    demand(said == real, f"{store.side}: listed conflicts {said} are not the real ones {real}")


class Said(NamedTuple):
    """What both sides wrote of a registration, the newest of each. `answered`: the partner submitted again after the decision; `extending`:
    it asked for more time than it has, and heard nothing yet."""

    written: Collection[str]
    erased: bool
    decision: Any
    answer: Any
    answered: bool
    extending: bool

    @property
    def accepted(self) -> bool:
        return bool(self.answer == "accepted" if "invitation" in self.written else self.decision == "approved")


# The first that holds is the status.
STATUSES: Sequence[tuple[str, Callable[[Said], bool]]] = (
    ("erased", lambda said: said.erased),
    ("unshared", lambda said: "unshared" in said.written),
    ("withdrawn", lambda said: "withdrawal" in said.written),
    ("revoked", lambda said: said.decision == "revoked"),
    ("won", lambda said: said.decision == "won"),
    ("lost", lambda said: said.decision == "lost"),
    ("expired", lambda said: said.decision == "expired"),
    ("rejected", lambda said: said.decision == "rejected"),
    ("under review", lambda said: said.decision == "under review"),
    ("action required", lambda said: said.decision == "action required" and not said.answered),
    ("extension pending", lambda said: said.accepted and said.extending),
    ("active", lambda said: said.accepted),
    ("declined", lambda said: "invitation" in said.written and said.answer == "declined"),
    ("invitation expired", lambda said: "invitation" in said.written and said.decision == "invitation expired"),
    ("invited", lambda said: "invitation" in said.written),
    ("submitted", lambda said: "submission" in said.written),
    ("draft", lambda said: True),
)


def find_status(document: Document) -> str:
    said = read_said(document)
    return next(status for status, holds in STATUSES if holds(said))


def read_said(document: Document) -> Said:
    newest = {name: find_newest(document.get(name)) for name in document if document.get(name).siblings}
    parts = {name: value if isinstance(value, dict) else {} for name, value in newest.items()}
    decision, submission = parts.get("decision", {}), parts.get("submission", {})
    until = parts.get("extension", {}).get("until")
    extending = until is not None and str(newest.get("expires") or "") < str(until) and not decision.get("extension")
    answered = (submission.get("round") or 1) > (decision.get("round") or 1)
    return Said(newest, document.erased, decision.get("decision"), parts.get("answer", {}).get("answer"), answered, extending)


def find_newest(register: Register) -> Any:
    """The value that is shown of several: by its stamp, the vendor's of two at once, then by the dot."""
    return max(register.siblings, key=lambda each: (*each.stamp, each.dot.incarnation, each.dot.counter)).value


def check_statuses(store: Store) -> None:
    """The columns are a function of the documents."""
    found = records(store)
    for partnership, uid, status in store.rows("SELECT partnership, uid, status FROM shared_deals"):
        document = Document.decode(found[partnership, uid][5])
        real = find_status(document)
        demand(status == real, f"{store.side}: {uid} is listed as {status}, but it is {real}")
    for body, document in store.rows("SELECT n.body, r.document FROM shared_notes n JOIN shared_records r ON r.uid = n.uid"):
        values = [each.value for each in Document.decode(document).get("body").siblings] or [""]  # nothing is left of an erased one
        demand(body in values, f"{store.side}: a note shows {body!r}, but it is one of {values}")


def check_counts(store: Store) -> None:
    """A deal's counts are those of its registrations."""
    registrations = store.rows("SELECT deal_id, status, state FROM shared_deals")
    counted = "SELECT id, number_of_deal_registrations, number_of_active_deal_registrations, open_registrations FROM deals"
    for deal_id, *said in store.rows(counted):
        statuses = [(status, state not in ("deleted", "erased")) for deal, status, state in registrations if deal == deal_id]
        living = [status for status, lives in statuses if lives]
        real = [len(statuses), sum(each in ACTIVE for each in living), sum(each in OPEN for each in living)]
        demand(said == real, f"{store.side}: deal {deal_id} counts {said}, but it has {real}")


def check_assignments(vendor: Store, restored: bool = False) -> None:
    """One automatic assignment per registration and turn, true to the state that it was made from; a rep for each that is active. In a
    store that went back the rotation was reckoned anew."""
    twice = vendor.rows("SELECT registration FROM assignments WHERE automatic GROUP BY registration, turn HAVING count(*) > 1")
    demand(not twice, f"assigned twice: {twice}")
    credits: dict[int, int] = {}
    for rep_id, explanation in vendor.rows(
        "SELECT rep_id, explanation FROM assignments WHERE automatic OR method = 'restored' ORDER BY id"
    ):
        told = json.loads(explanation)
        if "credits" in told:  # it came back to a restored store, and the wheel was turned once for it
            credits |= {int(id): credit for id, credit in told["credits"].items()}
            continue
        stated = {each["id"]: each["credit"] for each in told["considered"]}
        demand(
            restored or stated == {id: credits.get(id, 0) for id in stated},
            f"an explanation names {stated}, but the rotation stood at {credits}",
        )
        again = decide_again(told)
        demand(again.rep_id == rep_id, f"the explanation leads to {again.rep_id}, but {rep_id} was assigned")
        credits |= again.credits
    demand(
        restored or all(credit == credits.get(id, 0) for id, credit in vendor.rows("SELECT user_id, credit FROM reps")),
        "the rotation moved by itself",
    )
    for (_, uid), row in records(vendor).items():
        if row[1] == "registration" and find_status(Document.decode(row[5])) in ACTIVE:
            demand(bool(Document.decode(row[5]).get("rep").siblings), f"{uid} is active without a rep")
