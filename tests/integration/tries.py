"""What was tried with one partner's credentials against the other's things, and how it was answered: a table that its tests keep true.

`tests/golden/tries.md` has a section for each of them. With WRITE_TRIES=1 in the environment they write it anew.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

PATH = Path(__file__).parents[1] / "golden" / "tries.md"
Rows = Sequence[Sequence[str]]


def check_tries(section: str, rows: Rows, of: str | None = None) -> None:
    """The section of the table has these rows, and no others; `of`: those whose first cell this is."""
    stored = read_section(section)
    others = [row for row in stored if of is not None and row[0] != of]
    told = [tuple(row) for row in rows]
    if os.environ.get("WRITE_TRIES"):
        write_section(section, [*others, *told])
        return
    lines = [render(row) for row in told]
    kept = [render(row) for row in stored if row not in others]
    assert sorted(lines) == sorted(kept), f"{PATH.name} is not what was tried: run the test with WRITE_TRIES=1, and read the difference"


def read_section(section: str) -> list[tuple[str, ...]]:
    """The rows below a heading, without the table's own head."""
    lines = [line for line in cut(section)[1].splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if not line.startswith("| ---")][1:]


def write_section(section: str, rows: Rows) -> None:
    before, body, after = cut(section)
    head = body[: re.search(r"^\| ---.*\n", body, re.MULTILINE).end()]  # type: ignore[union-attr]  # every section has a table
    PATH.write_text(before + head + "".join(f"{render(row)}\n" for row in sorted(rows)) + after)


def render(row: Sequence[str]) -> str:
    return "| " + " | ".join(row) + " |"


def cut(section: str) -> tuple[str, str, str]:
    """The file around a section, and the section itself."""
    before, heading, rest = PATH.read_text().partition(f"## {section}\n")
    assert heading, f"{PATH.name} has no section {section!r}"
    body, mark, after = rest.partition("\n## ")
    return before + heading, body, mark + after
