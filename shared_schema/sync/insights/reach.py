"""How far one epoch has been acknowledged, and when that was said: the first time for each number, whichever topic is read first."""

from bisect import bisect_left
from heapq import heapify, heappop, heappush
from typing import NamedTuple

KEPT_MS = 3_600_000  # beyond the window


class Waiting(NamedTuple):
    """An event that was read before its acknowledgement."""

    sequence: int
    made_ms: int
    event: str
    kind: str


class EpochReach:
    """Watermarks ascend, each with the time (ms) at which it was first said."""

    def __init__(self) -> None:
        self.watermarks: list[int] = []
        self.said_ms: list[int] = []
        self.waiting: list[Waiting] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left to tell."""
        return not self.watermarks and not self.waiting

    def find(self, sequence: int) -> int | None:
        """When this number was first acknowledged, if it has been."""
        place = bisect_left(self.watermarks, sequence)
        return self.said_ms[place] if place < len(self.watermarks) else None

    def wait(self, sequence: int, made_ms: int, event: str, kind: str) -> None:
        heappush(self.waiting, Waiting(sequence, made_ms, event, kind))

    def advance(self, watermark: int, said_ms: int) -> list[Waiting]:
        """Take a watermark; what waited for it. One that is no higher says nothing new."""
        if watermark <= (self.watermarks[-1] if self.watermarks else 0):
            return []
        self.watermarks.append(watermark)
        self.said_ms.append(said_ms)
        reached = []
        while self.waiting and self.waiting[0].sequence <= watermark:
            reached.append(heappop(self.waiting))
        return reached

    def forget(self, before_ms: int) -> None:
        """What was made or said before this is asked for no more; a while longer where that is cheap."""
        if self.said_ms and self.said_ms[0] < before_ms - KEPT_MS:
            keep = bisect_left(self.said_ms, before_ms - KEPT_MS)
            self.watermarks, self.said_ms = self.watermarks[keep:], self.said_ms[keep:]
        if self.waiting and any(each.made_ms < before_ms for each in self.waiting):
            self.waiting = [each for each in self.waiting if each.made_ms >= before_ms]
            heapify(self.waiting)
