"""This process's identity as a writer: dots and stamps from memory, never from the database.

A restored backup or a lagging replica can then not reuse a dot, detected or not.
"""

from shared_schema.contract import stamps
from shared_schema.contract.identifiers import make_uid
from shared_schema.contract.registers import Dot, Side, Stamp, name_incarnation
from shared_schema.sync.clock import Clock


class Incarnation:
    """Counts one process's writes from 1; `renew` draws another after any lost database connection."""

    def __init__(self, side: Side, clock: Clock) -> None:
        self.side: Side = side
        self.clock = clock
        self.last = Stamp(0, 0)
        self.renew()

    def renew(self) -> None:
        self.name = name_incarnation(self.side, self.clock.random_bits(64))
        self.count = 0

    def next_dot(self) -> Dot:
        """Call it with the record locked, so that a field's dots are in commit order."""
        self.count += 1
        return Dot(self.name, self.count)

    def next_stamp(self) -> Stamp:
        self.last = stamps.tick(self.last, self.clock.now_ms())
        return self.last

    def adopt(self, received: Stamp) -> None:
        self.last = stamps.adopt(self.last, received, self.clock.now_ms())

    def new_uid(self) -> str:
        return make_uid(self.clock.now_ms(), self.clock.random_bits(74))
