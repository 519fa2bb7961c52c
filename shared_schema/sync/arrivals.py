"""What was read from a topic, sorted: events with their numbers, control messages, and what can not be read at all."""

import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from shared_schema.contract.codec import (
    HEADER_CONTROL,
    HEADER_EPOCH,
    HEADER_SEQUENCE,
    Event,
    Undecodable,
    decode_control,
    decode_event,
    peek_id,
)
from shared_schema.contract.envelope import Control
from shared_schema.contract.identifiers import EPOCH_PATTERN
from shared_schema.sync.log_lines import ids
from shared_schema.sync.transport import Received

log = logging.getLogger(__name__)


Headers = Mapping[str, bytes]
EPOCH = re.compile(EPOCH_PATTERN[1:-1].encode())


class Numbered(NamedTuple):
    """An event with the epoch and number that it was published under."""

    received: Received
    event: Event
    epoch: str
    sequence: int


class Unreadable(NamedTuple):
    """Bytes to park whole; its number still counts as arrived if the headers give one. `event` is the id to answer, if there is one, and
    `waits_for` the schema that would read it, where it is of a newer version."""

    received: Received
    reason: str
    detail: str
    event: str | None
    waits_for: str | None
    epoch: str | None
    sequence: int | None


class Arrivals(NamedTuple):
    events: list[Numbered]
    controls: list[Control]
    unreadable: list[Unreadable]

    def count_records(self) -> int:
        """How many shared records the events carry."""
        return sum(len(each.event.data.records) for each in self.events)


def sort_arrivals(partnership: str, batch: Sequence[Received]) -> Arrivals:
    """Decode a batch, in order, raising nothing. What does not decode, or names another partnership, is unreadable with its reason."""
    arrivals = Arrivals([], [], [])
    for received in batch:
        headers = dict(received.headers)  # of two with one name the last counts
        try:
            sort_one(partnership, received, headers, arrivals)
        except Undecodable as error:
            arrivals.unreadable.append(set_aside(received, headers, error.reason, str(error), error.waits_for))
        except Exception:  # a defect of ours may not stop the stream: the record is kept with the stack
            log.exception("a record can not be sorted", extra=ids(partnership, topic=received.topic, offset=received.offset))
            arrivals.unreadable.append(set_aside(received, headers, "poison", traceback.format_exc()))
    return arrivals


def sort_one(partnership: str, received: Received, headers: Headers, arrivals: Arrivals) -> None:
    control = headers.get(HEADER_CONTROL)
    if control is not None:
        message = decode_control(control.decode("utf-8", "replace"), received.value)
        check_partnership(partnership, message.partnership)
        arrivals.controls.append(message)
        return
    number = read_number(headers)
    if number is None:
        raise Undecodable("malformed", "an event needs the headers epoch (16 hexadecimal digits) and sequence (1 and up)")
    event = decode_event(received.value)
    check_partnership(partnership, event.partnership)
    arrivals.events.append(Numbered(received, event, *number))


def set_aside(received: Received, headers: Headers, reason: str, detail: str, waits_for: str | None = None) -> Unreadable:
    event = None if HEADER_CONTROL in headers else peek_id(received.value)
    return Unreadable(received, reason, detail, event, waits_for, *(read_number(headers) or (None, None)))


def check_partnership(own: str, named: str) -> None:
    if named != own:
        raise Undecodable("wrong_partnership", f"it names {named[:63]!r} on the topic of {own!r}")


def read_number(headers: Headers) -> tuple[str, int] | None:
    """Epoch and sequence from the headers, or None if they do not hold both."""
    epoch, digits = read_epoch(headers.get(HEADER_EPOCH, b"")), headers.get(HEADER_SEQUENCE, b"")
    if epoch is None or not digits.isdigit() or len(digits) > 16:
        return None
    sequence = int(digits)
    return (epoch, sequence) if 0 < sequence < 2**53 else None


@lru_cache(maxsize=1024)
def read_epoch(header: bytes) -> str | None:
    return header.decode() if EPOCH.fullmatch(header) else None
