"""The one place that reads the clock and draws randomness. Waiting is asyncio's business, so that a simulation can run on virtual time."""

import secrets
import time
from typing import Protocol

NANOSECONDS_PER_MS = 1_000_000


class Clock(Protocol):
    """Wall-clock time and randomness: all that a node takes from outside besides its store and the broker."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC; may jump, either way."""

    def random_bits(self, bits: int) -> int:
        """A random integer in 0 .. 2**bits - 1, that nobody can guess."""


class SystemClock:
    """The machine's own clock and entropy."""

    def now_ms(self) -> int:
        return time.time_ns() // NANOSECONDS_PER_MS

    def random_bits(self, bits: int) -> int:
        return secrets.randbits(bits)
