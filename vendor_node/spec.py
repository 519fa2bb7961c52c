"""What makes a vendor node: it decides on what partners register and assigns a rep."""

from shared_schema.sync.station import NodeSpec
from vendor_node.assigning import react_assign
from vendor_node.decisions import due, react_decide

SPEC = NodeSpec(side="vendor", due=due, reactions={"decide": react_decide, "assign": react_assign}, migrations="vendor_node.migrations")
