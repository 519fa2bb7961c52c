"""The README's table of promises names tests that exist, and every file of tests of the whole system keeps a promise in it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADING = "## What it promises, and which test shows it"
NAMED = re.compile(r"`(?P<file>[\w/]+\.py)`(?:: (?P<tests>.*))?")


def read_table() -> dict[str, list[str]]:
    """Per file of tests, the tests that the table names; none named means all of them."""
    section = (ROOT / "README.md").read_text().partition(HEADING)[2].partition("\n## ")[0]
    rows = [line.split(" | ")[-1].rstrip(" |") for line in section.splitlines() if line.startswith("| ") and ".py`" in line]
    named: dict[str, list[str]] = {}
    for row in rows:
        for part in row.split("; "):
            found = NAMED.fullmatch(part)
            assert found, f"{part!r} is not `file.py` or `file.py`: test, test"
            named.setdefault(found["file"], []).extend((found["tests"] or "").split(", ") if found["tests"] else [])
    return named


def names_in(path: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, functions)}
    return {name.removeprefix("test_") for name in names if name.startswith("test_")}


def test_every_test_that_the_table_names_exists() -> None:
    named = read_table()
    assert len(named) > 20
    for file, names in named.items():
        known = names_in(ROOT / "tests" / file)
        assert known, f"{file} has no tests"
        assert not {name.strip("`") for name in names} - known, f"{file} lacks {set(names) - known}"


def test_every_test_of_the_whole_system_keeps_a_promise_of_the_table() -> None:
    named = read_table()
    whole = [path for path in (ROOT / "tests").rglob("test_*.py") if path.parent.name in ("integration", "property", "simulation", "web")]
    assert not sorted({path.relative_to(ROOT / "tests").as_posix() for path in whole} - set(named))
