"""What a forger with a way to the broker would send: an event that claims to have seen a thousand million writes of whoever gets it."""

import json
from collections.abc import Mapping
from typing import Any

from shared_schema.contract.codec import RecordChange
from shared_schema.contract.documents import Document
from shared_schema.contract.registers import Dot, Register, Sibling, Side, Stamp
from shared_schema.sync.transport import Record
from tests.hand_made import make_event, make_message
from tests.stores import StoreCopy

FIELD, FORGED = "next_step", "written by a forger"
IDS = "01a0c450-0000-7000-8000-f06ed"  # how the ids of forged events begin
FAR = 10**9
FORGER = "-00000000000f06ed"  # how the forger's incarnations end: who settles a conflict by that value writes it as their own
# Of a deal whose next step a forger wrote, both sides take the claim for true from then on: another one is chosen.
DEALS = f"""SELECT r.uid, r.registration, r.parent, r.side, r.document, h.incarnation
    FROM shared_records r JOIN property_history h ON h.uid = r.uid AND h.source = 'local' WHERE r.kind = 'deal'
    AND NOT EXISTS (SELECT 1 FROM property_history f WHERE f.uid = r.uid AND f.incarnation LIKE '%{FORGER}') LIMIT 1"""
TAKEN = f"SELECT incarnation, counter, event, at_ms, uid FROM property_history WHERE incarnation LIKE '%{FORGER}'"
RESTORED = "SELECT detail, at_ms FROM journal WHERE what = 'store restored'"


def forge_event(partnership: str, sender: Side, row: tuple[Any, ...], number: int) -> Record:
    """`row` of DEALS, from the store of whoever is to be deceived."""
    uid, registration, parent, side, document, theirs = row
    text = document.decode() if isinstance(document, bytes) else document
    stamp = Stamp(max(each.stamp.physical for each in Document.decode(text).get("name").siblings), 0)
    forger = Dot(f"{sender[0]}{FORGER}", number)
    register = Register({forger.incarnation: number, theirs: FAR}, (Sibling(forger, stamp, None, FORGED),))
    change = RecordChange(uid, "deal", parent, registration, side, {FIELD: register})
    return make_message(make_event(f"{IDS}{number:07x}", "deal.changed", (partnership, sender), change, stamp), f"{number:016x}")


def find_taken(stores: Mapping[str, StoreCopy]) -> tuple[list[str], list[str]]:
    """By side, what it took of a forger: without a reason, and amid a restoration. Then the peer may name writes that a store knows nothing
    of, for it may bring them back; and what one side took like that goes on to the other as any edit."""
    amid = {(incarnation, counter) for store in stores.values() for incarnation, counter, _ in find_amid(store)}
    taken, excused = [], []
    for side, store in stores.items():
        dots = {(incarnation, counter) for incarnation, counter, *_ in store.rows(TAKEN)}
        if dots - amid or (not dots and FORGED.encode() in store.path.read_bytes()):
            taken.append(f"{side} took what a forger sent")
        excused += [f"{side} took what a forger sent while it was restored: {dot}" for dot in sorted(dots & amid)]
    return taken, excused


def find_claimed(stores: Mapping[str, StoreCopy]) -> set[tuple[str, str]]:
    """The places (uid and field) where a store took amid a restoration that a forger had seen all: what stood there then is covered."""
    return {(uid, FIELD) for store in stores.values() for *_, uid in find_amid(store)}


def find_amid(store: StoreCopy) -> list[tuple[str, int, str]]:
    """The forged writes that came to this store itself, while it was restored, with the uids of the deals that they are in."""
    spans = [(json.loads(detail)["since_ms"], ended_ms) for detail, ended_ms in store.rows(RESTORED)]
    return [
        (incarnation, counter, uid)
        for incarnation, counter, event, at_ms, uid in store.rows(TAKEN)
        if event.startswith(IDS) and any(since_ms <= at_ms <= ended_ms for since_ms, ended_ms in spans)
    ]
