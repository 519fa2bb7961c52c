"""Digests: per bucket the sum of its records' hashes, so that two stores which agree compare a million records in some kilobytes."""

import base64
import struct
from collections.abc import Mapping, Sequence

BUCKETS = 4_096
MODULUS = 2**64
_sums = struct.Struct(f">{BUCKETS}Q")


def pack_sums(sums: Mapping[int, int]) -> str:
    """The sums by bucket as text: 4,096 unsigned numbers of 64 bits, base64. Buckets that are not named are empty."""
    return base64.b64encode(_sums.pack(*(sums.get(bucket, 0) % MODULUS for bucket in range(BUCKETS)))).decode()


def unpack_sums(text: str) -> tuple[int, ...]:
    """What pack_sums packed; raises ValueError for anything else."""
    try:
        return _sums.unpack(base64.b64decode(text, validate=True))
    except (ValueError, struct.error) as error:
        raise ValueError(f"not {BUCKETS} sums: {error}") from error


def differing(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """The buckets whose sums differ."""
    return [bucket for bucket, (one, other) in enumerate(zip(left, right, strict=True)) if one != other]
