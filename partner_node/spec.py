"""What makes a partner node: it registers deals and answers nothing by itself."""

from shared_schema.sync.effects import nothing_due
from shared_schema.sync.station import NodeSpec

SPEC = NodeSpec(side="partner", due=nothing_due, reactions={}, migrations="partner_node.migrations")
