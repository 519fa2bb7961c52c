"""What a forger with a way to the broker would send: an event that claims to have seen a thousand million writes of whoever gets it."""

from typing import Any

from shared_schema.contract.codec import RecordChange
from shared_schema.contract.documents import Document
from shared_schema.contract.registers import Dot, Register, Sibling, Side, Stamp
from shared_schema.sync.transport import Record
from tests.hand_made import make_event, make_message

FORGED = "written by a forger"
IDS = "01a0c450-0000-7000-8000-f06ed"  # how the ids of forged events begin
FAR = 10**9
DEALS = """SELECT r.uid, r.registration, r.parent, r.side, r.document, h.incarnation
    FROM shared_records r JOIN property_history h ON h.uid = r.uid AND h.source = 'local' WHERE r.kind = 'deal' LIMIT 1"""


def forge_event(partnership: str, sender: Side, row: tuple[Any, ...], number: int) -> Record:
    """`row` of DEALS, from the store of whoever is to be deceived."""
    uid, registration, parent, side, document, theirs = row
    text = document.decode() if isinstance(document, bytes) else document
    stamp = Stamp(max(each.stamp.physical for each in Document.decode(text).get("name").siblings), 0)
    forger = Dot(f"{sender[0]}-00000000000f06ed", number)
    register = Register({forger.incarnation: number, theirs: FAR}, (Sibling(forger, stamp, None, FORGED),))
    change = RecordChange(uid, "deal", parent, registration, side, {"next_step": register})
    return make_message(make_event(f"{IDS}{number:07x}", "deal.changed", (partnership, sender), change, stamp), f"{number:016x}")
