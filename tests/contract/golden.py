"""The golden samples of the wire, one file per type: headers, and the exact text of the value."""

import json
from pathlib import Path
from typing import NamedTuple

DIRECTORY = Path(__file__).parents[1] / "golden" / "1.0"


class Sample(NamedTuple):
    """One record as it stands in a topic."""

    type: str
    headers: tuple[tuple[str, bytes], ...]
    value: bytes

    def __str__(self) -> str:
        return self.type


def read_sample(path: Path) -> Sample:
    stored = json.loads(path.read_text())
    headers = tuple((name, text.encode()) for name, text in stored["headers"].items())
    return Sample(path.stem, headers, stored["value"].encode())


SAMPLES = [read_sample(path) for path in sorted(DIRECTORY.glob("*.json"))]
