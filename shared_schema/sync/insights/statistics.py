"""What the topics of both directions tell together, as sums that come out the same in whatever order the topics are read, and however often
an event is published. Pure: the time is handed in. Times are the makers' own clocks', so that figures over both sides have their skew.

Windows are of whole minutes, by the time in the event's id. Registrations are followed for a week: less than topics are kept for, so that
what is recomputed is what was there.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from shared_schema.contract.codec import Event, read_time
from shared_schema.contract.envelope import Acknowledgement
from shared_schema.contract.identifiers import time_of
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import other
from shared_schema.sync.insights.quantiles import Spread, bucket_of
from shared_schema.sync.insights.reach import EpochReach

MINUTE_MS = 60_000
WINDOW_MINUTES = 60
AHEAD_MINUTES = 1_440
REGISTRATION_MS = 7 * 86_400_000
EDITS = frozenset({"deal.changed", "note.edited", "comment.edited", "products.changed", "quote.changed", "eligibility.changed"})
BEGINNINGS = frozenset({"deal.shared", "registration.submitted", "registration.invited"})
DECISIONS = frozenset({"registration.decided", "registration.answered"})
REPLIES = frozenset({"note.added", "comment.added"})


class LagKey(NamedTuple):
    partnership: str
    direction: str
    kind: str


@dataclass(slots=True)
class Minute:
    """What happened in one minute. `conflicts` are events that the other side answered with a conflict, known yet or not."""

    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    deals: Counter[tuple[str, str]] = field(default_factory=Counter)
    lags: defaultdict[LagKey, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    ids: set[str] = field(default_factory=set)
    edits: dict[str, str] = field(default_factory=dict)
    conflicts: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Registration:
    """When each side first said what counts (ms): began it, decided on it, wrote a note or comment."""

    began: dict[Side, int] = field(default_factory=dict)
    decided: dict[Side, int] = field(default_factory=dict)
    wrote: dict[Side, int] = field(default_factory=dict)

    @property
    def maker(self) -> Side | None:
        """The side that began it."""
        return min(self.began.items(), key=lambda each: each[1])[0] if self.began else None


class Statistics:
    """The sums of all partnerships that one node has."""

    def __init__(self) -> None:
        self.minutes: dict[int, Minute] = {}
        self.reaches: defaultdict[tuple[str, Side], dict[str, EpochReach]] = defaultdict(dict)
        self.registrations: dict[tuple[str, str], Registration] = {}
        self.unreadable: Counter[str] = Counter()
        self.oldest, self.newest = 0, 1 << 62

    def forget(self, now_ms: int) -> None:
        """Let go of what is out of every window; to be called now and then, and before figures are taken."""
        self.oldest, self.newest = now_ms // MINUTE_MS - WINDOW_MINUTES, now_ms // MINUTE_MS + AHEAD_MINUTES
        self.minutes = {minute: each for minute, each in self.minutes.items() if minute > self.oldest}
        begun = now_ms - REGISTRATION_MS
        self.registrations = {key: each for key, each in self.registrations.items() if latest(each) > begun}
        for epochs in self.reaches.values():
            for epoch, reach in list(epochs.items()):
                reach.forget(self.oldest * MINUTE_MS)
                if reach.is_over:
                    del epochs[epoch]

    def minute_of(self, event: str) -> Minute | None:
        """The minute in which an event was made; None if that is out of the window, or further ahead than any honest clock."""
        minute = time_of(event) // MINUTE_MS
        return self.minutes.setdefault(minute, Minute()) if self.oldest < minute < self.newest else None

    def take_event(self, partnership: str, sender: Side, event: Event, number: tuple[str, int]) -> None:
        """One event from its maker's topic, with its epoch and sequence."""
        self.follow_registration(partnership, sender, event)
        for outcome in event.data.outcomes:
            if outcome.outcome == "conflict" and (answered := self.minute_of(outcome.event)) is not None:
                answered.conflicts.add(outcome.event)
        minute = self.minute_of(event.id)
        if minute is None or event.id in minute.ids:
            return
        minute.ids.add(event.id)
        minute.events[partnership, event.type] += 1
        if event.registration is not None and not event.data.outcomes:
            minute.deals[partnership, event.registration] += 1
        if event.type in EDITS:
            minute.edits[event.id] = partnership
        self.measure_lag(partnership, sender, event, number)

    def measure_lag(self, partnership: str, sender: Side, event: Event, number: tuple[str, int]) -> None:
        """From the maker's commit until the other side said that it has the event: at once, or when that is read."""
        epoch, sequence = number
        reach = self.reaches[partnership, sender].setdefault(epoch, EpochReach())
        made_ms = read_time(event.time) or time_of(event.id)
        said_ms = reach.find(sequence)
        if said_ms is None:
            reach.wait(sequence, made_ms, event.id, event.type.partition(".")[0])
        else:
            self.keep_lag(partnership, sender, event.id, event.type.partition(".")[0], said_ms - made_ms)

    def keep_lag(self, partnership: str, sender: Side, event: str, kind: str, lag_ms: int) -> None:
        if (minute := self.minute_of(event)) is not None:
            minute.lags[LagKey(partnership, f"to_{other(sender)}", kind)][bucket_of(max(0, lag_ms))] += 1

    def take_acknowledgement(self, partnership: str, sender: Side, said: Acknowledgement) -> None:
        """What `sender` says that it has of the other side's epochs."""
        maker: Side = other(sender)
        for epoch, each in said.epochs.items():
            reach = self.reaches[partnership, maker].setdefault(epoch, EpochReach())
            for waiting in reach.advance(each.watermark, said.sent_ms):
                self.keep_lag(partnership, maker, waiting.event, waiting.kind, said.sent_ms - waiting.made_ms)

    def follow_registration(self, partnership: str, sender: Side, event: Event) -> None:
        if event.registration is None:
            return
        by_name = {"began": BEGINNINGS, "decided": DECISIONS, "wrote": REPLIES}
        for name in (name for name, types in by_name.items() if event.type in types):
            known = self.registrations.setdefault((partnership, event.registration), Registration())
            times: dict[Side, int] = getattr(known, name)
            at_ms = read_time(event.time) or time_of(event.id)
            times[sender] = min(at_ms, times.get(sender, at_ms))

    def within(self, now_ms: int, minutes: int) -> Iterable[Minute]:
        last = now_ms // MINUTE_MS
        return (each for minute, each in self.minutes.items() if last - minutes < minute <= last)


def latest(registration: Registration) -> int:
    """When it began; one whose beginning has not been read yet counts by what has."""
    times = registration.began or {**registration.decided, **registration.wrote}
    return min(times.values())


def decision_time(registration: Registration) -> int | None:
    """From the beginning to the other side's first decision or answer, ms."""
    maker = registration.maker
    decided = registration.decided.get(other(maker)) if maker else None
    return None if maker is None or decided is None else max(0, decided - registration.began[maker])


def reply_time(registration: Registration) -> int | None:
    """From the beginning to the other side's first note or comment, ms."""
    maker = registration.maker
    wrote = registration.wrote.get(other(maker)) if maker else None
    return None if maker is None or wrote is None else max(0, wrote - registration.began[maker])


def spread_of(registrations: Iterable[Registration], measure: str) -> Spread:
    """How long it took, over all registrations that got so far: `decision` or `reply`."""
    of = decision_time if measure == "decision" else reply_time
    return Spread.of(value for each in registrations if (value := of(each)) is not None)
