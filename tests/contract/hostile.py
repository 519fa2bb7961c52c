"""Samples with one leaf exchanged for something hostile: too long, too large, of another type, or what a store can not hold."""

import json
from collections.abc import Iterator
from typing import Any

TEXTS = ("", "x" * 70_000, "a\x00b", "a\nb", "\ud83d\ude00" * 40, "../../etc/passwd", "01998F3E-0000-7000-8000-00000000DEAD", "p-")
NUMBERS = (0, -1, 1.5, 2**53, 2**53 + 1, 2**63, 2**64, 10**30)
OTHERS: tuple[Any, ...] = (None, True, [], {}, {"state": "deleted", "seen": {"name": {"p-1": 2**70, "": -1}}}, [["a"]], {"a\x00": "b"})


def hostile_variants(value: bytes) -> Iterator[bytes]:
    """Each leaf and each key of an object, exchanged one at a time; the hostile values take turns, so that the number stays small."""
    document = json.loads(value)
    for turn, (holder, key) in enumerate(list(places(document))):
        kept = holder[key]
        for hostile in choose(kept, turn):
            holder[key] = hostile
            yield json.dumps(document).encode()
        holder[key] = kept
        if isinstance(holder, dict):
            del holder[key]
            yield json.dumps(document).encode()
            renamed = TEXTS[turn % len(TEXTS)]
            holder[renamed] = kept
            yield json.dumps(document).encode()
            holder.pop(renamed)
            holder[key] = kept


def choose(kept: Any, turn: int) -> list[Any]:
    own = TEXTS if isinstance(kept, str) else NUMBERS if isinstance(kept, int) else OTHERS
    return [own[(turn + step) % len(own)] for step in (0, 3)] + [(TEXTS + NUMBERS + OTHERS)[turn % 23]]


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder with a key or an index, the whole depth."""
    for key, inner in list(document.items() if isinstance(document, dict) else enumerate(document)):
        yield document, key
        if isinstance(inner, dict | list):
            yield from places(inner)
