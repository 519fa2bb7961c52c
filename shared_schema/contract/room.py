"""The room that each side has in a field and in a record, so that every record can be stated in one event.

What a side wrote is weighed against that side's room alone, where it is captured and where it is received. The receiver has no more of
the other side's writes than their own store had at some time, so it refuses no honest one, however many are concurrent; and whoever
floods a record leaves the other side as much room as before.
"""

from collections.abc import Mapping

from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.registers import (
    CONTEXT_MAX,
    EMPTY,
    SIBLINGS_MAX,
    Register,
    Side,
    encode_register,
    encode_sibling,
    encode_value,
    merge,
    new_siblings,
    side_of,
)

SIDES: tuple[Side, Side] = ("partner", "vendor")
SIDE_SIBLINGS_MAX = SIBLINGS_MAX // 2
SIDE_CONTEXT_MAX = CONTEXT_MAX // 2
VALUE_BYTES_MAX = 262_144
ROOM_BYTES = 440 * 1024  # twice this, and what an event says beside it, is an event
FIELD_BYTES = len(encode_register(EMPTY)) + len('"":,')


def count_siblings(register: Register, side: Side) -> int:
    return sum(side_of(sibling.dot.incarnation) == side for sibling in register.siblings)


def count_incarnations(register: Register, side: Side) -> int:
    return sum(side_of(name) == side for name in register.context)


def weigh_field(name: str, register: Register, side: Side) -> int:
    """The bytes of a field that are one side's. Both sides' together are no less than the field has."""
    entries = [f'"{each}":{counter},' for each, counter in register.context.items() if side_of(each) == side]
    siblings = [encode_sibling(each) for each in register.siblings if side_of(each.dot.incarnation) == side]
    return FIELD_BYTES + len(name) + sum(map(len, entries)) + sum(len(each) + 1 for each in siblings) if entries or siblings else 0


def weigh(document: Document, side: Side) -> int:
    """The bytes of a record that are one side's."""
    return sum(weigh_field(name, document.get(name), side) for name in document)


def find_excess(before: Register, after: Register) -> str | None:
    """Why a field may not become so, a reason of the door's: one side would have too many siblings, or incarnations, in it."""
    if len(after.siblings) > SIDE_SIBLINGS_MAX:
        for side in SIDES:
            if count_siblings(after, side) > max(SIDE_SIBLINGS_MAX, count_siblings(before, side)):
                return "too_many_siblings"
    if len(after.context) > SIDE_CONTEXT_MAX:
        for side in SIDES:
            if count_incarnations(after, side) > max(SIDE_CONTEXT_MAX, count_incarnations(before, side)):
                return "context_too_long"
    return None


def is_too_large(name: str, value: object) -> bool:
    """Whether a value is too long for any field. A deletion says what it had seen, and only its side's room bounds that."""
    return name != LIFE and len(encode_value(value)) > VALUE_BYTES_MAX


def is_small(stored: Document, fields: Mapping[str, Register]) -> bool:
    """Whether, at a glance, no value is too large and neither side's room is used up by half."""
    size = sum(len(encode_register(register)) + len(name) for name, register in fields.items())
    return size <= VALUE_BYTES_MAX and stored.size + size <= ROOM_BYTES // 2


def find_overflow(stored: Document, fields: Mapping[str, Register]) -> dict[str, str]:
    """Per field with a value that is too large, or with which more of the record would be one side's than its room, the reason; the
    fields come in order of their names."""
    if is_small(stored, fields):
        return {}
    refused = {}
    taken = {side: weigh(stored, side) for side in SIDES}
    for name in sorted(fields):
        before = stored.get(name)
        after = merge(before, fields[name])
        more = {side: weigh_field(name, after, side) - weigh_field(name, before, side) for side in SIDES}
        if any(is_too_large(name, sibling.value) for sibling in new_siblings(before, fields[name])):
            refused[name] = "value_too_large"
        elif any(more[side] > 0 and taken[side] + more[side] > ROOM_BYTES for side in SIDES):
            refused[name] = "record_full"
        else:
            taken = {side: taken[side] + more[side] for side in SIDES}
    return refused
