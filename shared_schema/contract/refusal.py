"""What a receiver refuses before it merges, per field: forgery, other people's fields, and size.

Without the own-side rule a forged context of 10^9 would make every later edit of ours look already seen.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.identifiers import is_uid
from shared_schema.contract.life import is_deletion, seen_of
from shared_schema.contract.policy import Policy, may_write
from shared_schema.contract.records import is_written_once
from shared_schema.contract.registers import (
    COUNTER_MAX,
    INCARNATION,
    Context,
    Register,
    Sibling,
    Side,
    covers,
    merge,
    new_siblings,
    side_of,
)
from shared_schema.contract.room import (
    ROOM_BYTES,
    SIDE_CONTEXT_MAX,
    SIDE_SIBLINGS_MAX,
    VALUE_BYTES_MAX,
    find_excess,
    find_overflow,
)

REASONS: dict[str, str] = {
    "wrong_partnership": "the event names another partnership than its topic's",
    "wrong_parent": "the parent belongs to another partnership, kind or registration",
    "wrong_identity": "the uid is already a record of another kind or creator",
    "own_context_ahead": "it claims to have seen writes of ours that we never made",
    "own_record_unknown": "it names a record of ours that we never made",
    "own_value_changed": "it carries another value under a dot of ours",
    "foreign_dot": "it carries a new dot that is not of the sender's side",
    "dot_reused": "it carries two values under one dot",
    "not_writable": "the policy does not let the sender write this field",
    "written_once": "the field is written when the record is made, and never again",
    "too_many_siblings": f"it would have more than {SIDE_SIBLINGS_MAX} siblings of one side",
    "context_too_long": f"its context would have more than {SIDE_CONTEXT_MAX} entries of one side",
    "value_too_large": f"its value has more than {VALUE_BYTES_MAX:,} bytes",
    "record_full": f"the record would hold more than {ROOM_BYTES:,} bytes of one side's",
    "bad_register": "a counter, dot, context or actor is out of range",
}


# What a forger and a store that went back have in common.
AHEAD = ("own_context_ahead", "own_record_unknown", "foreign_dot")


class Door(NamedTuple):
    """Who stands at the door: our side, the policy in force, and the side that created the record. While our store is being restored
    `running` names this process's incarnation: writes of ours may come back then, but none that this process would have made."""

    own: Side
    policy: Policy
    kind: str
    creator: Side
    running: str | None = None


@lru_cache(maxsize=65_536)
def named_side(incarnation: str) -> Side | None:
    """The side of an incarnation by its name; None for what can not be one."""
    return side_of(incarnation) if INCARNATION.fullmatch(incarnation) else None


def admits(door: Door, name: str, stored: Register, incoming: Register) -> bool:
    """Whether a field is let in at a glance: one new write of the sender's, with nothing said of ours that we do not know. What this
    lets in, refuse_field would; what it does not, that decides."""
    if len(incoming.siblings) != 1 or name == LIFE or (stored.context and is_written_once(door.kind, name)):
        return False
    if len(stored.siblings) >= SIDE_SIBLINGS_MAX or len(stored.context) + len(incoming.context) > SIDE_CONTEXT_MAX:
        return False
    own, (incarnation, counter), actor = door.own, incoming.siblings[0].dot, incoming.siblings[0].actor
    for each, seen in incoming.context.items():
        side = named_side(each)
        if side is None or not 0 < seen <= COUNTER_MAX or (side == own and seen > stored.context.get(each, 0)):
            return False
    if not stored.context.get(incarnation, 0) < counter <= incoming.context.get(incarnation, 0) or counter < 1:
        return False
    if named_side(incarnation) == own or any(each.dot == incoming.siblings[0].dot for each in stored.siblings):
        return False
    sender: Side = "vendor" if own == "partner" else "partner"
    return (actor is None or is_uid(actor)) and may_write(door.policy, door.kind, name, sender, door.creator)


def refuse_field(door: Door, name: str, stored: Register, incoming: Register) -> str | None:
    """The reason to refuse one field's register, a key of REASONS, or None to merge it."""
    return (
        refuse_shape(incoming)
        or refuse_own_context(door, stored.context, incoming.context)
        or refuse_own_values(door.own, stored, incoming)
        or refuse_new_dots(door, name, stored, incoming)
        or refuse_rewriting(door, name, stored, incoming)
        or refuse_excess(stored, incoming)
    )


def refuse_shape(incoming: Register) -> str | None:
    if not incoming.siblings or any(not 0 < counter <= COUNTER_MAX for counter in incoming.context.values()):
        return "bad_register"
    if any(not covers(incoming.context, sibling.dot) or sibling.dot.counter < 1 for sibling in incoming.siblings):
        return "bad_register"
    named = all(INCARNATION.fullmatch(name) for name in incoming.context)
    acted = all(sibling.actor is None or is_uid(sibling.actor) for sibling in incoming.siblings)
    return None if named and acted else "bad_register"


def refuse_own_context(door: Door, stored: Context, incoming: Context) -> str | None:
    """Nobody but us can know writes of ours that we do not: a forgery, or our own store went back."""
    ahead = [name for name, counter in incoming.items() if side_of(name) == door.own and counter > stored.get(name, 0)]
    refused = ahead if door.running is None else door.running in ahead
    return "own_context_ahead" if refused else None


def refuse_own_values(own: Side, stored: Register, incoming: Register) -> str | None:
    known = {sibling.dot: sibling for sibling in stored.siblings}
    if len({sibling.dot for sibling in incoming.siblings}) < len(incoming.siblings):
        return "dot_reused"
    for sibling in incoming.siblings:
        same = known.get(sibling.dot)
        if same is not None and same != sibling:
            return "own_value_changed" if side_of(sibling.dot.incarnation) == own else "dot_reused"
    return None


def refuse_new_dots(door: Door, name: str, stored: Register, incoming: Register) -> str | None:
    """A new dot must be the sender's and in a field that is the sender's to write; so must be what takes a value of ours away."""
    sender: Side = "vendor" if door.own == "partner" else "partner"
    writers: set[Side | None] = {side_of(sibling.dot.incarnation) for sibling in new_siblings(stored, incoming)}
    if door.running is None and door.own in writers:
        return "foreign_dot"
    may = {side for side in (sender, door.own) if may_write(door.policy, door.kind, name, side, door.creator)}
    if door.running is None:
        may.discard(door.own)
    if not writers and takes_away(stored, incoming):
        return None if may else "not_writable"
    return None if writers <= may else "not_writable"


def refuse_rewriting(door: Door, name: str, stored: Register, incoming: Register) -> str | None:
    """What is written once takes no second value, beside the first or in its place. Two first ones of one side are a forger's, or of a
    store that went back: each receiver keeps the one that it got first, and what the other holds is refused, listed and shown as drift."""
    if not is_written_once(door.kind, name):
        return None
    again = stored.context and (new_siblings(stored, incoming) or takes_away(stored, incoming))
    return "written_once" if again or len(incoming.siblings) > 1 else None


def refuse_excess(stored: Register, incoming: Register) -> str | None:
    """By what merging would make of the field: one at a time its writes would pass, too."""
    siblings, incarnations = len(stored.siblings) + len(incoming.siblings), len(stored.context) + len(incoming.context)
    if siblings <= SIDE_SIBLINGS_MAX and incarnations <= SIDE_CONTEXT_MAX:
        return None
    return find_excess(stored, merge(stored, incoming))


def takes_away(stored: Register, incoming: Register) -> bool:
    """Whether merging would remove a sibling that is stored here."""
    dots = {sibling.dot for sibling in incoming.siblings}
    return any(covers(incoming.context, sibling.dot) and sibling.dot not in dots for sibling in stored.siblings)


def refuse_deletions(door: Door, stored: Document, siblings: Iterable[Sibling]) -> str | None:
    """The contexts inside deletions obey the own-side rule too."""
    for deletion in filter(is_deletion, siblings):
        for name, context in seen_of(deletion).items():
            if reason := refuse_own_context(door, stored.get(name).context, context):
                return reason
    return None


def refuse_fields(door: Door, stored: Document, incoming: Mapping[str, Register]) -> dict[str, str]:
    """Per refused field of a record's change, the reason; at a glance where every field is the ordinary case."""
    for name, register in incoming.items():
        if not admits(door, name, stored.get(name), register):
            return refuse(door, stored, Document.of(incoming))
    return find_overflow(stored, incoming)


def refuse(door: Door, stored: Document, incoming: Document) -> dict[str, str]:
    """Per refused field, the reason. What is not named is merged: one refused field refuses that field, not the event."""
    refused = {}
    for name in incoming:
        register = incoming.get(name)
        reason = refuse_field(door, name, stored.get(name), register)
        if reason is None and name == LIFE:
            reason = refuse_deletions(door, stored, new_siblings(stored.get(name), register))
        if reason is not None:
            refused[name] = reason
    return refused | find_overflow(stored, {name: incoming.get(name) for name in incoming if name not in refused})
