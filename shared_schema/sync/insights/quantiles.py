"""Quantiles of times: of many by buckets that are five per cent wide, of few by the values themselves."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

WIDTH = math.log(1.05)


def bucket_of(ms: int) -> int:
    """The bucket of a time in ms, 0 and up."""
    return round(math.log(ms + 1) / WIDTH)


def middle_of(bucket: int) -> float:
    """The time (ms) that a bucket stands for: right to within two and a half per cent."""
    return math.exp(bucket * WIDTH) - 1


def quantile(buckets: Mapping[int, int], share: float) -> float | None:
    """The time (ms) that this share of all does not exceed; None of nothing."""
    rank, seen = share * sum(buckets.values()), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= rank:
            return middle_of(bucket)
    return None


def merge(parts: Iterable[Mapping[int, int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for each in parts:
        total.update(each)
    return total


class Spread(NamedTuple):
    """How many, and the times (ms) that half and nine in ten of them do not exceed; None of nothing."""

    total: int
    p50_ms: int | None
    p90_ms: int | None

    @classmethod
    def of(cls, values: Iterable[int]) -> "Spread":
        ordered = sorted(values)
        if not ordered:
            return cls(0, None, None)
        p50, p90 = (ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in (0.5, 0.9))
        return cls(len(ordered), p50, p90)
