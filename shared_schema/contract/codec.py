"""Bytes to events and back, fast. The format is `envelope`'s; a test holds both to the same golden samples."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from pydantic import ValidationError

from shared_schema.contract.envelope import CONTROLS, DATASCHEMA, EVENT_BYTES_MAX, LABEL_MAX, SCHEMA_PREFIX, VERSION, Control
from shared_schema.contract.identifiers import NAME_PATTERN, UID_PATTERN, is_uid
from shared_schema.contract.registers import Register, Side, Stamp

HEADER_EPOCH = "epoch"
HEADER_SEQUENCE = "sequence"
HEADER_CONTROL = "control"
PEEKED_BYTES_MAX = 8 << 20  # a compressed fetch may hold far more, and nobody honest sends it


class Undecodable(ValueError):
    """Bytes that are no event of a version known here. `reason` is malformed, oversized or newer_major; `waits_for` is then the schema that
    would read it, without its minor version."""

    def __init__(self, reason: str, detail: str, waits_for: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.waits_for = waits_for


Uid = Annotated[str, msgspec.Meta(pattern=UID_PATTERN.replace("$", r"\Z"))]  # Python's $ would let a line feed follow
Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN.replace("$", r"\Z"))]
Label = Annotated[str, msgspec.Meta(max_length=LABEL_MAX)]


class RecordChange(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The changed fields of one record, as whole registers. `erased`: the record is erased as a whole. `erased_fields`: those erased
    by name, alone or before all of it was."""

    uid: Uid
    kind: Name
    parent: Uid | None
    registration: Uid | None
    side: Side
    fields: dict[Name, Register]
    erased: bool = False
    erased_fields: tuple[Name, ...] = ()


class Outcome(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    event: Uid
    outcome: Label
    reason: Label
    uid: Uid | None = None
    field: Name | None = None


class EventData(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    records: tuple[RecordChange, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One fact. One command is one event, applied in one transaction."""

    specversion: Literal["1.0"] = "1.0"
    id: Uid
    source: Label
    type: Label
    subject: Label
    time: Label
    dataschema: Label = DATASCHEMA
    partnership: Label
    registration: Uid | None
    stamp: Stamp
    causation: Uid | None = None
    actor: Uid | None = None
    keyid: Label | None = None
    data: EventData


class Head(msgspec.Struct, frozen=True, gc=False):
    """What can be read of an event whose body is of another version."""

    dataschema: str


class Sender(msgspec.Struct, frozen=True, gc=False):
    """What an answer needs of an event that can not be read."""

    id: Any = None
    type: Any = None


_event = msgspec.json.Decoder(Event)
_head = msgspec.json.Decoder(Head)
_sender = msgspec.json.Decoder(Sender)
_encoder = msgspec.json.Encoder(order="sorted")


def encode_event(event: Event) -> bytes:
    return _encoder.encode(event)


def decode_event(payload: bytes | None) -> Event:
    """An event of this major version; raises Undecodable, never anything else."""
    if payload is None or len(payload) > EVENT_BYTES_MAX:
        raise Undecodable("oversized" if payload else "malformed", f"an event has 1 to {EVENT_BYTES_MAX} bytes")
    if payload.isascii():  # then nothing of it can be bad UTF-8
        with suppress(msgspec.DecodeError, RecursionError):
            event = _event.decode(payload)
            if event.dataschema == DATASCHEMA and event.dataschema is not DATASCHEMA:  # said, and not filled in
                return event
    return decode_step_by_step(payload)


def decode_step_by_step(payload: bytes) -> Event:
    """The version first, then the rest: what decides where an event is not at a glance one of this version."""
    try:
        text = payload.decode()  # msgspec does not look at the bytes that it skips
        check_version(_head.decode(text).dataschema)
        return _event.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Undecodable("malformed", str(error)) from error


def peek_id(payload: bytes | None) -> str | None:
    """The id to answer, of an event that can not be read; None where there is none, where it is an outcome, which nobody answers, or where
    there is too much to look through. Raises nothing."""
    if payload is None or len(payload) > PEEKED_BYTES_MAX:
        return None
    with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        sender = _sender.decode(payload)
        if isinstance(sender.id, str) and is_uid(sender.id) and sender.type != "outcome.reported":
            return sender.id
    return None


def check_version(dataschema: str) -> None:
    """Newer minor versions are read, newer major ones are not."""
    major = dataschema.removeprefix(SCHEMA_PREFIX).partition(".")[0]
    if dataschema == major or not major.isdecimal():
        raise Undecodable("malformed", f"dataschema {dataschema[:80]!r} is not {SCHEMA_PREFIX}…")
    if int(major) != int(VERSION.partition(".")[0]):
        why = f"version {major} of the contract is not known here; upgrade this node"
        raise Undecodable("newer_major", why, name_schema(dataschema))


def name_schema(dataschema: str) -> str:
    """A schema without its minor version: who reads one of them reads all."""
    return dataschema.partition(".")[0]


def format_time(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_time(text: str) -> int | None:
    """Milliseconds since 1970 UTC of an RFC 3339 time; None for anything else."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def encode_control(control: Control) -> bytes:
    return control.model_dump_json().encode()


def decode_control(name: str, payload: bytes | None) -> Control:
    """A control message; raises Undecodable."""
    model = CONTROLS.get(name)
    if model is None or payload is None:
        raise Undecodable("malformed", f"{name[:60]!r} is no control message of this version")
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        raise Undecodable("malformed", f"{name}: {error.error_count()} invalid parts") from error


def to_plain(value: Any) -> Any:
    """Structs as plain JSON values, for people and APIs."""
    return msgspec.to_builtins(value)
