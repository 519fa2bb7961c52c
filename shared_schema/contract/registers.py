"""Dotted multi-value registers: the unit that two sides edit at once and nobody can lose.

A register is a context (per incarnation, the highest counter seen) and the siblings that nobody who had them in view has
overwritten. `merge` is commutative, associative and idempotent; `write` covers exactly what the writer had in view.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

Side = Literal["partner", "vendor"]
Context = Mapping[str, int]

COUNTER_MAX = 2**53
INCARNATION = re.compile("[pv]-[0-9a-f]{1,16}")
SIBLINGS_MAX = 16
CONTEXT_ALARM = 64  # so many incarnations of a field are a reason to look
CONTEXT_MAX = 1_024
TOKEN_PREFIX = "s1."


class Dot(NamedTuple):
    """One write's identity: the process incarnation that made it (`p-…` or `v-…`) and its count there."""

    incarnation: str
    counter: int


Moment = Annotated[int, msgspec.Meta(ge=0, le=COUNTER_MAX)]


class Stamp(NamedTuple):
    """Hybrid-clock time of a write: physical milliseconds since 1970 UTC, then a logical count. It only orders display."""

    physical: Moment
    logical: Moment


class Sibling(msgspec.Struct, frozen=True, gc=False):
    """A value not yet overwritten by anyone who had it in view; `actor` is the uid of a person record."""

    dot: Dot
    stamp: Stamp
    actor: str | None
    value: Any


class Register(msgspec.Struct, frozen=True, gc=False):
    """One field's whole state. Siblings stand in dot order, so equal registers have equal bytes."""

    context: dict[str, int]
    siblings: tuple[Sibling, ...]


EMPTY = Register({}, ())


class BadToken(ValueError):
    """A `seen` token that this contract did not issue."""


def side_of(incarnation: str) -> Side | None:
    """The side that an incarnation belongs to by its prefix, or None for an unknown one."""
    return {"p-": "partner", "v-": "vendor"}.get(incarnation[:2])  # type: ignore[return-value]  # mypy reads the literals as str


def name_incarnation(side: Side, bits: int) -> str:
    """The name of a process incarnation from 64 random bits."""
    return f"{side[0]}-{bits:016x}"


def covers(context: Context, dot: Dot) -> bool:
    return context.get(dot.incarnation, 0) >= dot.counter


def join(left: Context, right: Context) -> dict[str, int]:
    """The least context that covers both."""
    joined = dict(left)
    for incarnation, counter in right.items():
        if counter > joined.get(incarnation, 0):
            joined[incarnation] = counter
    return joined


def meet(left: Context, right: Context) -> dict[str, int]:
    """What both contexts cover."""
    return {name: min(counter, right[name]) for name, counter in left.items() if name in right}


def merge(left: Register, right: Register) -> Register:
    """The state after both: a sibling stays if both have it, or if the other's context does not cover it."""
    if replaces(left, right):
        return right
    return left if left == right else merge_siblings(left, right)


def replaces(left: Register, right: Register) -> bool:
    """Whether `right` is the state after both, at a glance: one write that is new to `left` by somebody who had all of it in view."""
    if len(right.siblings) != 1:
        return False
    context, (incarnation, counter) = right.context, right.siblings[0].dot
    if left.context.get(incarnation, 0) >= counter:
        return False
    for name, seen in left.context.items():
        if name not in context or context[name] < seen:
            return False
    for sibling in left.siblings:
        if sibling.dot == right.siblings[0].dot or not covers(context, sibling.dot):
            return False
    return min(context.values(), default=0) > 0


def merge_siblings(left: Register, right: Register) -> Register:
    """Merge by the rule, sibling by sibling."""
    ours = {sibling.dot: sibling for sibling in left.siblings}
    theirs = {sibling.dot: sibling for sibling in right.siblings}
    kept = [pick(sibling, theirs[dot]) for dot, sibling in ours.items() if dot in theirs]
    kept += [sibling for dot, sibling in ours.items() if dot not in theirs and not covers(right.context, dot)]
    kept += [sibling for dot, sibling in theirs.items() if dot not in ours and not covers(left.context, dot)]
    return Register(join(left.context, right.context), in_dot_order(kept))


def pick(left: Sibling, right: Sibling) -> Sibling:
    """Two values under one dot never happen honestly; the choice only has to be the same on every side."""
    return left if left == right else min(left, right, key=encode_sibling)


def write(register: Register, seen: Context, sibling: Sibling) -> Register:
    """The register after a save by someone who had `seen` in view. What they had not seen stays beside the new value."""
    covered = meet(seen, register.context)
    kept = [old for old in register.siblings if not covers(covered, old.dot)]
    return Register(join(register.context, dict([sibling.dot])), in_dot_order([*kept, sibling]))


def in_dot_order(siblings: Iterable[Sibling]) -> tuple[Sibling, ...]:
    return tuple(sorted(siblings, key=lambda sibling: sibling.dot))


def differs(register: Register) -> bool:
    """Whether the siblings hold more than one value: a conflict that a person should see."""
    if len(register.siblings) < 2:
        return False
    first = encode_value(register.siblings[0].value)
    return any(encode_value(sibling.value) != first for sibling in register.siblings[1:])


def latest_first(siblings: Sequence[Sibling]) -> Sequence[Sibling]:
    """The display order *latest*: physical, logical, side, incarnation, counter; the same on both sides."""
    if len(siblings) < 2:
        return siblings
    return sorted(siblings, key=lambda each: (each.stamp, each.dot.incarnation[:1], each.dot), reverse=True)


def new_siblings(before: Register, incoming: Register) -> list[Sibling]:
    """The incoming writes that the state before had not seen."""
    return [sibling for sibling in incoming.siblings if not covers(before.context, sibling.dot)]


def encode_value(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces."""
    return msgspec.json.encode(value, order="sorted")


def encode_sibling(sibling: Sibling) -> bytes:
    return msgspec.json.encode(sibling, order="sorted")


def encode_register(register: Register) -> bytes:
    return msgspec.json.encode(register, order="sorted")


def encode_token(context: Context) -> str:
    """The opaque `seen` token of what was shown."""
    return TOKEN_PREFIX + base64.urlsafe_b64encode(encode_value(dict(context))).decode().rstrip("=")


def decode_token(token: str) -> dict[str, int]:
    """The context of a `seen` token; raises BadToken for anything else."""
    body = token.removeprefix(TOKEN_PREFIX)
    try:
        if body == token:
            raise BadToken("a seen token begins with 's1.'; send back the one that the read returned")
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=dict[str, int])
    except (binascii.Error, msgspec.DecodeError, UnicodeError) as error:
        raise BadToken("this seen token is damaged; read the record again and send back what it returns") from error
