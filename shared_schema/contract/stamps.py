"""The hybrid logical clock, as pure steps. Times are milliseconds since 1970 UTC."""

from shared_schema.contract.registers import Stamp

SKEW_LIMIT_MS = 5_000
LOGICAL_LIMIT = 2**32  # far beyond honest clocks; adopting more would let a peer count us out of range


def tick(last: Stamp, now_ms: int) -> Stamp:
    """The stamp of a new write: never before the last one, never behind the wall clock."""
    return Stamp(now_ms, 0) if now_ms > last.physical else Stamp(last.physical, last.logical + 1)


def adopt(last: Stamp, received: Stamp, now_ms: int) -> Stamp:
    """The local clock after a received stamp; one that is more than 5 s ahead, or counted past all reason, is not adopted."""
    if is_ahead(received, now_ms) or received.logical > LOGICAL_LIMIT or received <= last:
        return last
    return received


def is_ahead(received: Stamp, now_ms: int) -> bool:
    """Whether a stamp is so far ahead of here that it is flagged."""
    return received.physical > now_ms + SKEW_LIMIT_MS
