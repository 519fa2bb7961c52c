"""What the checker of chaos says of a forgery that a store has taken."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.forgery import FIELD, FORGED, FORGER, IDS, find_claimed, find_taken
from tests.stores import StoreCopy

DEAL = "0aacf9f6-2d78-5b36-b4d1-33430ffa64e0"
TOOK = "vendor took what a forger sent"
AMID = f"took what a forger sent while it was restored: ('p{FORGER}', 1)"


def make_store(path: Path, side: str, *taken: tuple[int, str, int]) -> StoreCopy:
    """It was restored from 100 to 200; `taken` are (count, event, at)."""
    with closing(sqlite3.connect(path / f"{side}.db")) as connection, connection:
        connection.execute("CREATE TABLE property_history (incarnation, counter, event, at_ms, uid, value)")
        connection.execute("CREATE TABLE journal (what, detail, at_ms)")
        connection.execute("""INSERT INTO journal VALUES ('store restored', '{"why": "a test", "since_ms": 100}', 200)""")
        rows = [(f"p{FORGER}", *row, DEAL, f'"{FORGED}"') for row in taken]
        connection.executemany("INSERT INTO property_history VALUES (?, ?, ?, ?, ?, ?)", rows)
    return StoreCopy(side, path / f"{side}.db")


@pytest.mark.parametrize(
    ("vendors", "partners", "found"),
    [
        ([(1, f"{IDS}1", 150)], [], ([], [f"vendor {AMID}"])),
        ([(1, f"{IDS}1", 201)], [], ([TOOK], [])),
        ([(1, f"{IDS}1", 99)], [], ([TOOK], [])),
        ([(1, "an honest event", 150)], [], ([TOOK], [])),
        (
            [(2, f"{IDS}2", 300)],
            [(1, f"{IDS}1", 150)],
            ([TOOK], [f"partner {AMID}"]),
        ),
    ],
)
def test_only_what_came_to_a_store_itself_amid_a_restoration_is_no_defect(
    tmp_path: Path, vendors: list[tuple[int, str, int]], partners: list[tuple[int, str, int]], found: tuple[list[str], list[str]]
) -> None:
    stores = {"partner": make_store(tmp_path, "partner", *partners), "vendor": make_store(tmp_path, "vendor", *vendors)}
    assert find_taken(stores) == found


def test_what_one_side_took_amid_a_restoration_may_go_on_to_the_other(tmp_path: Path) -> None:
    stores = {
        "partner": make_store(tmp_path, "partner", (1, "an honest event", 300)),
        "vendor": make_store(tmp_path, "vendor", (1, f"{IDS}1", 200)),
    }
    taken, excused = find_taken(stores)
    assert not taken
    assert len(excused) == 2


def test_whoever_settles_a_conflict_by_what_a_forger_wrote_is_no_forger(tmp_path: Path) -> None:
    vendor = make_store(tmp_path, "vendor", (1, f"{IDS}1", 150))
    with closing(sqlite3.connect(vendor.path)) as connection, connection:
        settled = ("v-8c1f0b6a2d94e357", 7, "an honest event", 300, DEAL, f'"{FORGED}"')
        connection.execute("INSERT INTO property_history VALUES (?, ?, ?, ?, ?, ?)", settled)
    taken, excused = find_taken({"partner": make_store(tmp_path, "partner"), "vendor": vendor})
    assert not taken and len(excused) == 1


def test_a_forgery_that_no_history_tells_of_is_found_by_its_bytes(tmp_path: Path) -> None:
    vendor = make_store(tmp_path, "vendor")
    with closing(sqlite3.connect(vendor.path)) as connection, connection:
        connection.execute("CREATE TABLE deals AS SELECT ? AS next_step", (FORGED,))
    assert find_taken({"partner": make_store(tmp_path, "partner"), "vendor": vendor}) == ([TOOK], [])


def test_what_a_forger_covered_amid_a_restoration_is_known_by_its_place_and_nothing_else_is(tmp_path: Path) -> None:
    amid, later = (make_store(tmp_path, side, (1, f"{IDS}1", at_ms)) for side, at_ms in (("vendor", 150), ("partner", 300)))
    assert find_claimed({"vendor": amid, "partner": later}) == {(DEAL, FIELD)}
    assert find_claimed({"partner": later}) == set()
