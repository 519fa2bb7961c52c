"""The mass-delete brake, decided: which changes destroy something, and how many of them within a window are too many. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from shared_schema.contract.codec import RecordChange
from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.life import is_deletion
from shared_schema.contract.registers import new_siblings
from shared_schema.crm.shared_records import Written

Direction = Literal["out", "in"]
BRAKE = "brake"  # why a row of the outbox is held, or a record parked
DROPPED = "held by the brake, and dropped by a person"
UNSHARED = "unshared"
DESTRUCTIVE = frozenset({LIFE, UNSHARED})
LEFT = frozenset({"partner_left", "vendor_left"})
LEAST = 5  # so many pass, however few records there are


class Limits(NamedTuple):
    """Within `window_ms`, of one partnership, direction and kind: at most `most` destroyed, and at most `percent` of those that lived."""

    most: int = 100
    percent: int = 20
    window_ms: int = 3_600_000


class Act(NamedTuple):
    """A record destroyed: deleted, erased or unshared. Whatever ends a registration counts as its deal."""

    kind: str
    uid: str
    act: str
    registration: str | None


def count_as(kind: str) -> str:
    return "deal" if kind == "registration" else kind


def act_of_change(change: RecordChange, stored: Document) -> Act | None:
    """What an arriving change would destroy of a record as it stands; None if nothing, or nothing more."""
    act = None
    if change.erased or change.erased_fields:
        news = not stored.erased and (change.erased or not set(change.erased_fields) <= stored.erased_fields)
        act = "erased" if news else None
    elif LIFE in change.fields and any(map(is_deletion, new_siblings(stored.get(LIFE), change.fields[LIFE]))):
        act = "deleted"
    elif change.kind == "registration" and UNSHARED in change.fields and not stored.get(UNSHARED).siblings:
        act = UNSHARED
    return Act(count_as(change.kind), change.uid, act, change.registration) if act else None


def acts_of_writes(written: Iterable[Written]) -> list[Act]:
    """What a command of this side has destroyed."""
    acts = []
    for each in written:
        act = UNSHARED if each.field == UNSHARED else "deleted" if each.field == LIFE and is_deletion(each.sibling) else None
        if act:
            acts.append(Act(count_as(each.record.kind), each.record.uid, act, each.record.registration))
    return acts


def takes_leave(written: Sequence[Written]) -> bool:
    """Whether a command of this side destroys something, or deletes it for this side: what a store that went back is not to say before
    it knows what it has lost."""
    return any(each.field in LEFT for each in written) or bool(acts_of_writes(written))


def spare(change: RecordChange) -> RecordChange | None:
    """The part of a change that destroys nothing; None if there is none."""
    if change.erased or change.erased_fields:
        return None
    fields = {name: register for name, register in change.fields.items() if name not in DESTRUCTIVE}
    return RecordChange(change.uid, change.kind, change.parent, change.registration, change.side, fields) if fields else None


def allowed(lived: int, limits: Limits) -> int:
    """How many of `lived` records of a kind may be destroyed within the window; a share of 100 % sets no limit of its own."""
    share = limits.most if limits.percent >= 100 else limits.percent * lived // 100
    return max(LEAST, min(limits.most, share))


@dataclass(slots=True)
class Ledger:
    """What the brake knows of one partnership and direction while a transaction works: by kind, which records passed within the window and
    how many lived before; the records of which something is held, and the events that hold it; of those that arrive the ones that a
    person here dropped; and the rows to keep of what it judged."""

    limits: Limits
    recent: dict[str, set[str]] = field(default_factory=dict)
    lived: dict[str, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    rows: list[dict[str, Any]] = field(default_factory=list)
    whys: list[str] = field(default_factory=list)

    def judge(self, event: str, acts: Sequence[Act], touched: Iterable[str] = ()) -> str | None:
        """Why to hold an event, or None. What touches the life of a record of which something is held waits behind it: order is kept."""
        why = self.find_reason(acts, {*touched, *(each.uid for each in acts)})
        self.rows += [{**each._asdict(), "event": event, "passed": why is None} for each in acts]
        if why is None:
            for each in acts:
                self.recent.setdefault(each.kind, set()).add(each.uid)
        else:
            self.held.update(each.uid for each in acts)
            self.waiting.add(event)
            self.whys.append(why)
        return why

    def take_over(self, before: "Ledger") -> None:
        """Go on from another one of the same transaction, whose rows are not written yet."""
        self.rows, self.whys, self.held = before.rows, before.whys, self.held | before.held
        self.waiting |= before.waiting
        for row in before.rows:
            if row["passed"]:
                self.recent.setdefault(row["kind"], set()).add(row["uid"])

    def find_reason(self, acts: Sequence[Act], touched: set[str]) -> str | None:
        if waiting := sorted(touched & self.held):
            return f"something of {waiting[0]} is held already"
        for kind in sorted({each.kind for each in acts}):
            count = len(self.recent.get(kind, set()) | {each.uid for each in acts if each.kind == kind})
            most = allowed(self.lived.get(kind, 0), self.limits)
            if count > most:
                minutes = self.limits.window_ms // 60_000
                return f"{count:,} of kind {kind} within {minutes:,} minutes, and {most:,} pass without a person's word"
        return None
