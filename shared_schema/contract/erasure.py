"""Who may erase what. An erasure is one-way and absorbing: merging with erased is erased, whatever arrives; so it can not be disputed."""

from collections.abc import Mapping

from shared_schema.contract.codec import Event, EventData, RecordChange
from shared_schema.contract.registers import Side

Gone = Mapping[str, frozenset[str]]  # erased records by uid with the erased fields; none named: the whole record, and all below it

PERSONAL_FIELDS = {"registration": frozenset({"contact"})}  # what is erased of a record by itself: a person who is no user of either side


def may_erase(kind: str, side: Side, creator: Side) -> bool:
    """Whether a side may erase a record: any of either's but the policy, and of people only its own."""
    return kind != "policy" and (kind != "person" or side == creator)


def may_erase_fields(kind: str, names: frozenset[str]) -> bool:
    """Whether these fields of a record may be erased alone."""
    return bool(names) and names <= PERSONAL_FIELDS.get(kind, frozenset())


def strip_event(event: Event, gone: Gone) -> Event | None:
    """The event in its erased state, without what is gone; None where it carries nothing of it."""
    stripped = tuple(strip_change(each, gone) for each in event.data.records)
    if all(one is other for one, other in zip(stripped, event.data.records, strict=True)):
        return None
    data = EventData(records=stripped, outcomes=event.data.outcomes)
    return Event(**{name: getattr(event, name) for name in Event.__struct_fields__} | {"data": data})


def strip_change(change: RecordChange, gone: Gone) -> RecordChange:
    """One record's change without what is gone of it; the same object where nothing is."""
    named = gone.get(change.uid)
    if named == frozenset() or any(above in gone and not gone[above] for above in (change.parent, change.registration) if above):
        if change.erased and not change.fields:
            return change
        return RecordChange(change.uid, change.kind, change.parent, change.registration, change.side, {}, erased=True)
    if not named or not named & set(change.fields):
        return change
    kept = {name: register for name, register in change.fields.items() if name not in named}
    told = tuple(sorted(named | set(change.erased_fields)))
    return RecordChange(change.uid, change.kind, change.parent, change.registration, change.side, kept, erased_fields=told)
