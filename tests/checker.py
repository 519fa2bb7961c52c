"""The checker, always the same: both stores agree, nothing acknowledged is lost, nothing was called applied that was not.

It reads rows, and shares no code with what it checks beyond the contract's types and the pure assignment that it replays.
"""

import json
from typing import Any, Protocol

from shared_schema.contract.codec import decode_event
from shared_schema.contract.documents import Document
from shared_schema.contract.records import is_one_way
from shared_schema.contract.registers import differs
from shared_schema.contract.registration import is_active, is_open, status_of
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


class Broken(AssertionError):
    """A promise was broken; the text says which."""


class Store(Protocol):
    """One side's store, to look into. `rows` takes a statement of SQLite's and its parameters."""

    side: str

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]: ...


def check_stores(partner: Store, vendor: Store) -> None:
    """Raises Broken."""
    unshared = unshared_registrations(partner, vendor)
    check_same_records(partner, vendor, unshared)
    check_same_history(partner, vendor, unshared)
    for store, peer in ((partner, vendor), (vendor, partner)):
        check_removed(store, peer)
        check_conflict_index(store)
        check_statuses(store)
        check_counts(store)
        demand(not store.rows("SELECT * FROM parked"), f"{store.side}: something is still parked")
    check_assignments(vendor)


def demand(held: bool, promise: str) -> None:
    if not held:
        raise Broken(promise)


def unshared_registrations(*stores: Store) -> set[str]:
    found = [store.rows("SELECT uid FROM shared_deals WHERE status = 'unshared'") for store in stores]
    return {uid for rows in found for (uid,) in rows}


def records(store: Store) -> dict[str, tuple[Any, ...]]:
    rows = store.rows("SELECT uid, kind, parent, registration, side, document, state, hash FROM shared_records")
    return {row[0]: row for row in rows}


def check_same_records(partner: Store, vendor: Store, unshared: set[str]) -> None:
    ours, theirs = records(partner), records(vendor)
    for uid in sorted(ours.keys() | theirs.keys()):
        row = ours.get(uid) or theirs[uid]
        if row[3] not in unshared:
            demand(ours.get(uid) == theirs.get(uid), f"the stores differ in {row[1]} {uid}: {ours.get(uid)} | {theirs.get(uid)}")


def dots(store: Store) -> set[tuple[Any, ...]]:
    return set(store.rows("SELECT uid, field, incarnation, counter, value FROM property_history"))


def check_same_history(partner: Store, vendor: Store, unshared: set[str]) -> None:
    """Both sides know every write of either: none is lost, none is known to one side only."""
    outside = {uid for store in (partner, vendor) for uid, row in records(store).items() if row[3] in unshared}
    lost = {each for each in dots(partner) ^ dots(vendor) if each[0] not in outside}
    demand(not lost, f"writes that only one side knows: {sorted(lost)[:5]}")


def check_removed(store: Store, peer: Store) -> None:
    """What left an outbox as applied is in the peer's history, or the peer said what became of it."""
    known = {each[:4] for each in dots(peer)}
    told = {event for (event,) in store.rows("SELECT event FROM peer_outcomes")}
    for event, payload in store.rows("SELECT event, payload FROM removed_rows"):
        if event in told:
            continue
        for change in decode_event(payload.encode()).data.records:
            for name, register in change.fields.items():
                for sibling in register.siblings:
                    place = (change.uid, name, sibling.dot.incarnation, sibling.dot.counter)
                    demand(
                        place in known or withdrawn(store, change.registration), f"called applied, but {peer.side} never had it: {place}"
                    )


def withdrawn(store: Store, registration: str | None) -> bool:
    """Whether unsharing withdrew rows of it."""
    return bool(store.rows("SELECT 1 FROM shared_deals WHERE uid = ? AND status = 'unshared'", registration))


def check_conflict_index(store: Store) -> None:
    """The list of conflicts is what the registers say; no concurrent write vanished without one."""
    said = {(uid, field) for uid, field in store.rows("SELECT uid, field FROM conflicts")}
    real = set()
    for uid, row in records(store).items():
        document = Document.decode(row[5])
        real |= {(uid, name) for name in document if differs(document.get(name)) and not is_one_way(row[1], name)}
    demand(said == real, f"{store.side}: listed conflicts {said} are not the real ones {real}")


def check_statuses(store: Store) -> None:
    """The columns are a function of the documents."""
    for uid, status in store.rows("SELECT uid, status FROM shared_deals"):
        document = Document.decode(records(store)[uid][5])
        demand(status == status_of(document), f"{store.side}: {uid} is listed as {status}, but it is {status_of(document)}")
    for body, document in store.rows("SELECT n.body, r.document FROM shared_notes n JOIN shared_records r ON r.uid = n.uid"):
        values = [each.value for each in Document.decode(document).get("body").siblings]
        demand(body in values, f"{store.side}: a note shows {body!r}, but it is one of {values}")


def check_counts(store: Store) -> None:
    """A deal's counts are those of its registrations."""
    registrations = store.rows("SELECT deal_id, status, state FROM shared_deals")
    counted = "SELECT id, number_of_deal_registrations, number_of_active_deal_registrations, open_registrations FROM deals"
    for deal_id, *said in store.rows(counted):
        statuses = [(status, state != "deleted") for deal, status, state in registrations if deal == deal_id]
        living = [status for status, lives in statuses if lives]
        real = [len(statuses), sum(map(is_active, living)), sum(map(is_open, living))]
        demand(said == real, f"{store.side}: deal {deal_id} counts {said}, but it has {real}")


def check_assignments(vendor: Store) -> None:
    """One automatic assignment per registration and turn, true to the state that it was made from; a rep for each that is active."""
    twice = vendor.rows("SELECT registration FROM assignments WHERE automatic GROUP BY registration, turn HAVING count(*) > 1")
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
