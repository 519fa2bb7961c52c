"""Who may erase what. An erasure is one-way and absorbing: merging with erased is erased, whatever arrives; so it can not be disputed."""

from collections.abc import Mapping

from shared_schema.contract.codec import Event, EventData, RecordChange
from shared_schema.contract.documents import WHOLE
from shared_schema.contract.registers import Side

Gone = Mapping[str, frozenset[str]]  # by uid what is gone of erased records, see Document.gone; below a whole one, all is

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
    named = gone.get(change.uid, frozenset())
    told = tuple(sorted((named - WHOLE) | set(change.erased_fields)))
    if any(gone.get(each, frozenset()) >= WHOLE for each in (change.uid, change.parent, change.registration) if each):
        if change.erased and not change.fields and told == change.erased_fields:
            return change
        return RecordChange(change.uid, change.kind, change.parent, change.registration, change.side, {}, True, told)
    if named.isdisjoint(change.fields):
        return change
    kept = {name: register for name, register in change.fields.items() if name not in named}
    return RecordChange(change.uid, change.kind, change.parent, change.registration, change.side, kept, erased_fields=told)
