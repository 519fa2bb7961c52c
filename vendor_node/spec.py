"""What makes a vendor node: it decides on what partners register, assigns a rep, and looks after the broker."""

from shared_schema.sync.station import NodeSpec
from vendor_node.assigning import react_accept, react_assign, react_forget
from vendor_node.decisions import due, react_decide
from vendor_node.fallback_queue import count_unassigned
from vendor_node.invitations import react_invitation
from vendor_node.restored import mend
from vendor_node.warden import watch_broker

REACTIONS = {
    "decide": react_decide,
    "assign": react_assign,
    "accept": react_accept,
    "forget": react_forget,
    "invitation": react_invitation,
}
TENDS = (watch_broker, count_unassigned)
SPEC = NodeSpec(side="vendor", due=due, reactions=REACTIONS, migrations="vendor_node.migrations", tends=TENDS, restored=mend)
