"""What one epoch's numbers say about loss, as pure steps: the next number, the open gaps, the watermark."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Ranges = tuple[tuple[int, int], ...]
Arrival = Literal["new", "filled", "repeated"]


class Progress(NamedTuple):
    """`next` is the number expected now; `gaps` are inclusive ranges below it that have not come."""

    next: int = 1
    gaps: Ranges = ()


def receive(progress: Progress, number: int) -> tuple[Progress, Arrival]:
    """The progress after a number arrived, and what it was."""
    if number >= progress.next:
        return Progress(number + 1, announce(progress, number - 1).gaps), "new"
    gaps = without(progress.gaps, number, number)
    return Progress(progress.next, gaps), "repeated" if gaps == progress.gaps else "filled"


def announce(progress: Progress, last: int) -> Progress:
    """The progress after a heartbeat named the last number: what has not come by now is a gap."""
    if last < progress.next:
        return progress
    return Progress(last + 1, (*progress.gaps, (progress.next, last)))


def void(progress: Progress, ranges: Iterable[tuple[int, int]]) -> Progress:
    """The progress after numbers turned out to be nobody's."""
    gaps = progress.gaps
    for first, last in ranges:
        gaps = without(gaps, first, last)
    return Progress(progress.next, gaps)


def without(gaps: Ranges, first: int, last: int) -> Ranges:
    left: list[tuple[int, int]] = []
    for low, high in gaps:
        if low < first:
            left.append((low, min(high, first - 1)))
        if high > last:
            left.append((max(low, last + 1), high))
    return tuple(left)


def watermark(progress: Progress) -> int:
    """The highest number below which nothing is missing; 0 for nothing yet."""
    return progress.gaps[0][0] - 1 if progress.gaps else progress.next - 1
