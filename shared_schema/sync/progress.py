"""How far the peer's epochs have been received here, kept in the transaction that applies."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.envelope import Control, EpochAcknowledgement, Heartbeat, Restated, Void
from shared_schema.crm.rows import upsert
from shared_schema.crm.statements import Statement
from shared_schema.sync import sequence
from shared_schema.sync.answers import OUTCOME
from shared_schema.sync.arrivals import Arrivals
from shared_schema.sync.erasures import ERASED
from shared_schema.sync.restate import RESTATED
from shared_schema.sync.sequence import Progress
from shared_schema.sync.tables import inbound_epochs

RANGES_MAX = 100
UNRECORDED = (OUTCOME, RESTATED, ERASED)  # once these are acknowledged, their sender has no history of them
NEWEST = 8  # epochs that are acknowledged every time, so that a peer whose store went back hears of what it no longer knows


@dataclass(slots=True)
class Reach:
    """Per epoch of the peer's, the progress, the ids of the event at the watermark and of the one at the last number (its `head`), where
    they are known (a head only if its sender keeps a history of it), and when it moved last (ms). `touched` are the epochs that the batch
    speaks of."""

    partnership: str
    epochs: dict[str, Progress] = field(default_factory=dict)
    events: dict[str, str | None] = field(default_factory=dict)
    heads: dict[str, str | None] = field(default_factory=dict)
    moved_ms: dict[str, int] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    arrivals: Counter[str] = field(default_factory=Counter)

    def of(self, epoch: str) -> Progress:
        return self.epochs.get(epoch, Progress())

    def count(self, arrivals: Arrivals) -> None:
        """Take in a batch's numbers. What is parked has arrived; whether it is applied is told by outcomes."""
        for each in arrivals.events:
            self.arrive(each.epoch, each.sequence, each.event.id, recorded=each.event.type not in UNRECORDED)
        for unread in arrivals.unreadable:
            if unread.epoch is not None and unread.sequence is not None:
                self.arrive(unread.epoch, unread.sequence, None)
        for control in arrivals.controls:
            self.hear(control)

    def arrive(self, epoch: str, number: int, event: str | None, *, recorded: bool = True) -> None:
        progress, arrival = sequence.receive(self.of(epoch), number)
        if number == progress.next - 1:
            self.heads[epoch] = event if recorded else None
        self.move(epoch, progress, number, event)
        self.touched.add(epoch)
        self.arrivals[arrival] += 1

    def move(self, epoch: str, progress: Progress, number: int = 0, event: str | None = None) -> None:
        """What is missing behind the watermark takes nothing from the event that stands there: by it a peer learns what its store lost. It
        is the one of this number, or the head where the last gap is filled; between two gaps it is not known any more. By then the sender
        may have heard of the head under another number, and have nothing of it but its history."""
        mark = sequence.watermark(progress)
        if mark != sequence.watermark(self.of(epoch)):
            self.events[epoch] = event if mark == number else self.heads.get(epoch) if mark == progress.next - 1 else None
        self.epochs[epoch] = progress

    def hear(self, control: Control) -> None:
        """A heartbeat shows a lost tail, and so does the end of a statement; a void closes numbers that nobody bears."""
        if isinstance(control, Heartbeat | Restated):
            for epoch, last in control.epochs.items():
                if last >= self.of(epoch).next:
                    self.heads[epoch] = None
                    self.move(epoch, sequence.announce(self.of(epoch), last))
        if isinstance(control, Void):
            for epoch, ranges in control.epochs.items():
                self.move(epoch, sequence.void(self.of(epoch), ranges))
        if isinstance(control, Heartbeat | Restated | Void):
            self.touched.update(control.epochs)


EPOCH = tuple(inbound_epochs.c[name] for name in ("epoch", "next_sequence", "gaps", "event", "head", "moved_ms"))
RECEIVED = Statement(select(*EPOCH).where(inbound_epochs.c.partnership == bindparam("partnership")))


async def load(tx: AsyncConnection, partnership: str) -> Reach:
    """Every epoch received of late; a peer's restart adds one, and the sweeper takes the old ones."""
    return make_reach(partnership, await RECEIVED.fetch(tx, {"partnership": partnership}))


def make_reach(partnership: str, rows: Iterable[Sequence[Any]]) -> Reach:
    """The reach that these rows say: epoch, next number, gaps, event, head, and when it last moved."""
    reach = Reach(partnership)
    for epoch, next_sequence, gaps, event, head, moved_ms in rows:
        reach.epochs[epoch] = Progress(next_sequence, tuple((low, high) for low, high in json.loads(gaps)))
        reach.events[epoch], reach.heads[epoch] = event, head
        reach.moved_ms[epoch] = moved_ms
    return reach


async def save(tx: AsyncConnection, reach: Reach, epochs: Iterable[str], now_ms: int) -> None:
    rows = [
        {
            "partnership": reach.partnership,
            "epoch": epoch,
            "next_sequence": reach.of(epoch).next,
            "gaps": json.dumps(reach.of(epoch).gaps),
            "event": reach.events.get(epoch),
            "head": reach.heads.get(epoch),
            "moved_ms": now_ms,
        }
        for epoch in sorted(epochs)
    ]
    await upsert(tx, inbound_epochs, rows, ("next_sequence", "gaps", "event", "head", "moved_ms"))


def acknowledge(reach: Reach) -> dict[str, EpochAcknowledgement]:
    """What to tell the peer: cumulative, so that a lost acknowledgement costs nothing. Of the epochs that are over only the newest are
    named, or every restart would make it longer for ever."""
    newest = sorted(reach.epochs, key=lambda epoch: (reach.moved_ms.get(epoch, 0), epoch))[-NEWEST:]
    named = {*newest, *reach.touched, *(epoch for epoch, progress in reach.epochs.items() if progress.gaps)}
    return {
        epoch: EpochAcknowledgement(
            watermark=sequence.watermark(progress),
            gaps=list(progress.gaps[:RANGES_MAX]),
            event=reach.events.get(epoch),
        )
        for epoch, progress in sorted(reach.epochs.items())
        if epoch in named
    }


def missing(reach: Reach) -> dict[str, list[tuple[int, int]]]:
    """The open gaps to ask for again."""
    return {epoch: list(progress.gaps[:RANGES_MAX]) for epoch, progress in sorted(reach.epochs.items()) if progress.gaps}
