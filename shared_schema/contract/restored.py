"""Whether this side's store went back, decided from what others still have of it: its own topic, and what the peer acknowledges."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from shared_schema.contract.codec import Event, RecordChange
from shared_schema.contract.documents import Document
from shared_schema.contract.registers import Register, Side, side_of


class Claim(NamedTuple):
    """What the peer acknowledges of ours: an epoch, how far, and the event there, where it names one. `known`: we had that epoch."""

    epoch: str
    watermark: int
    event: str | None
    known: bool


def find_lost_fact(own: Side, facts: Iterable[Event], queued: Collection[str], stored: Mapping[str, Document]) -> str | None:
    """Of events that this side published, the last one with a write of ours that the store has not got; None if it has them all.

    What is in the outbox is there; what was acknowledged left its dots in the records. Outcomes alone say nothing: they are made again."""
    lost = [
        fact.id for fact in facts if fact.id not in queued and any(lacks(own, stored.get(each.uid), each) for each in fact.data.records)
    ]
    return lost[-1] if lost else None


def lacks(own: Side, stored: Document | None, change: RecordChange) -> bool:
    """Whether a change of ours names a write or an erasure of ours that the stored record never saw. What was erased is known."""
    if stored is not None and stored.erased:
        return False
    if change.erased:
        return True
    if stored is None:
        return bool(change.erased_fields) or any(own_counters(own, register) for register in change.fields.values())
    return any(not stored.is_erased(name) for name in change.erased_fields) or any(
        counter > stored.get(name).context.get(incarnation, 0)
        for name, register in change.fields.items()
        if not stored.is_erased(name)
        for incarnation, counter in own_counters(own, register).items()
    )


def own_counters(own: Side, register: Register) -> dict[str, int]:
    """The part of a register's context that only this side could have made."""
    return {incarnation: counter for incarnation, counter in register.context.items() if side_of(incarnation) == own}


def find_false_claim(claims: Iterable[Claim], known: Collection[str]) -> str | None:
    """The first claim that this store can not explain, in words: an epoch that it never began, or an event that it never made."""
    for claim in claims:
        if not claim.known:
            return f"the peer acknowledges the epoch {claim.epoch}, which this store never began"
        if claim.event is not None and claim.event not in known:
            return f"the peer acknowledges the event {claim.event}, which this store never made"
    return None
