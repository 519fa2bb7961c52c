"""How far the peer's epochs have been received here, kept in the transaction that applies."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.envelope import Control, EpochAcknowledgement, Heartbeat, Void
from shared_schema.crm.rows import upsert
from shared_schema.crm.statements import Statement
from shared_schema.sync import sequence
from shared_schema.sync.arrivals import Arrivals
from shared_schema.sync.sequence import Progress
from shared_schema.sync.tables import inbound_epochs

RANGES_MAX = 100


@dataclass(slots=True)
class Reach:
    """Per epoch of the peer's, the progress and the id of the event received last."""

    partnership: str
    epochs: dict[str, Progress] = field(default_factory=dict)
    events: dict[str, str | None] = field(default_factory=dict)
    arrivals: Counter[str] = field(default_factory=Counter)

    def of(self, epoch: str) -> Progress:
        return self.epochs.get(epoch, Progress())

    def count(self, arrivals: Arrivals) -> None:
        """Take in a batch's numbers. What is parked has arrived; whether it is applied is told by outcomes."""
        for each in arrivals.events:
            self.arrive(each.epoch, each.sequence, each.event.id)
        for unread in arrivals.unreadable:
            if unread.epoch is not None and unread.sequence is not None:
                self.arrive(unread.epoch, unread.sequence, None)
        for control in arrivals.controls:
            self.hear(control)

    def arrive(self, epoch: str, number: int, event: str | None) -> None:
        self.epochs[epoch], arrival = sequence.receive(self.of(epoch), number)
        self.arrivals[arrival] += 1
        if arrival == "new":
            self.events[epoch] = event

    def hear(self, control: Control) -> None:
        """A heartbeat shows a lost tail; a void closes numbers that nobody bears."""
        if isinstance(control, Heartbeat):
            for epoch, last in control.epochs.items():
                self.epochs[epoch] = sequence.announce(self.of(epoch), last)
        if isinstance(control, Void):
            for epoch, ranges in control.epochs.items():
                self.epochs[epoch] = sequence.void(self.of(epoch), ranges)


RECEIVED = Statement(
    select(inbound_epochs.c.epoch, inbound_epochs.c.next_sequence, inbound_epochs.c.gaps, inbound_epochs.c.event).where(
        inbound_epochs.c.partnership == bindparam("partnership")
    )
)


async def load(tx: AsyncConnection, partnership: str) -> Reach:
    """Every epoch received so far; a peer's restart adds one."""
    reach = Reach(partnership)
    for epoch, next_sequence, gaps, event in await RECEIVED.fetch(tx, {"partnership": partnership}):
        reach.epochs[epoch] = Progress(next_sequence, tuple((low, high) for low, high in json.loads(gaps)))
        reach.events[epoch] = event
    return reach


async def save(tx: AsyncConnection, reach: Reach, epochs: Iterable[str]) -> None:
    rows = [
        {
            "partnership": reach.partnership,
            "epoch": epoch,
            "next_sequence": reach.of(epoch).next,
            "gaps": json.dumps(reach.of(epoch).gaps),
            "event": reach.events.get(epoch),
        }
        for epoch in sorted(epochs)
    ]
    await upsert(tx, inbound_epochs, rows, ("next_sequence", "gaps", "event"))


def acknowledge(reach: Reach) -> dict[str, EpochAcknowledgement]:
    """What to tell the peer: cumulative, so that a lost acknowledgement costs nothing."""
    return {
        epoch: EpochAcknowledgement(
            watermark=sequence.watermark(progress),
            gaps=list(progress.gaps[:RANGES_MAX]),
            event=None if progress.gaps else reach.events.get(epoch),
        )
        for epoch, progress in sorted(reach.epochs.items())
    }


def missing(reach: Reach) -> dict[str, list[tuple[int, int]]]:
    """The open gaps to ask for again."""
    return {epoch: list(progress.gaps[:RANGES_MAX]) for epoch, progress in sorted(reach.epochs.items()) if progress.gaps}
