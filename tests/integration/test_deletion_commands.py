"""Deleting by the command line: what the commands print, and that they do what the API does."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from deploy.demo.processes import running_node
from tests.integration.test_cli import DETAILS, Run, plant_partner, run

__all__ = ["run"]

MARKS = ("qvxzmark", "h@g.example", "Spreadsheets.")  # of a note, a contact and a registration


def test_a_deal_is_deleted_restored_left_and_erased(run: Run, tmp_path: Path) -> None:  # the fixture
    plant_partner(run, tmp_path)
    run("partner", "registrations", "convert", "1", *DETAILS)
    assert "written" in run("partner", "shared-deals", "delete-for-both", "1")
    (row,) = json.loads(run("partner", "trash", "list", "--json"))
    assert row["kind"] == "deal"
    run("partner", "trash", "restore", str(row["id"]))
    assert run("partner", "trash", "list") == "nothing"
    run("partner", "shared-deals", "leave", "1")
    assert run("partner", "deals", "list") == "nothing"
    run("partner", "shared-deals", "come-back", "1")
    note = run("partner", "notes", "add", "1", "a qvxzmark", "--shared")
    assert "erased here" in run("partner", "erasures", "note", note)
    run("partner", "erasures", "contact", "1")
    run("partner", "erasures", "deal", "1")
    assert run("partner", "erasures", "list").count("on its way") == 3
    store = (tmp_path / "partner.db").read_bytes()
    assert b"qvxzmark" not in store and b"h@g.example" not in store
    assert len((tmp_path / "partner.db.erasures").read_text().splitlines()) == 4
    assert run("partner", "brake", "status") == "nothing"


@pytest.fixture
def put_back(run: Run, tmp_path: Path) -> str:
    """A partner's store put back from a copy that is older than its erasures; an admin's token."""
    plant_partner(run, tmp_path)
    token = run("partner", "tokens", "create", "admin@example.com")
    run("partner", "registrations", "convert", "1", *DETAILS)
    run("partner", "notes", "add", "1", "a qvxzmark", "--shared")
    store, copy = tmp_path / "partner.db", tmp_path / "copy"
    shutil.copy(store, copy)
    run("partner", "erasures", "contact", "1")
    run("partner", "erasures", "deal", "1")
    for path in (store, tmp_path / "partner.db-wal", tmp_path / "partner.db-shm"):
        path.unlink(missing_ok=True)
    shutil.move(copy, store)
    assert all(mark in read_rows(store) for mark in MARKS), "the copy holds it"
    return token


def read_rows(store: Path) -> str:
    """Every row of a store, as whoever opens it now finds it."""
    with closing(sqlite3.connect(store)) as connection:
        return "\n".join(connection.iterdump())


def test_an_older_copy_put_back_erases_again_before_a_command_reads_it(run: Run, put_back: str, tmp_path: Path) -> None:  # the fixture
    told = run("partner", "deals", "list", "--json")
    assert [mark for mark in MARKS if mark in told + read_rows(tmp_path / "partner.db")] == []


def test_an_older_copy_put_back_erases_again_before_a_node_answers(put_back: str, tmp_path: Path, kafka_address: str) -> None:
    store = tmp_path / "partner.db"
    with running_node("partner", f"sqlite:///{store}", kafka_address, tmp_path) as node, node.client(put_back) as client:
        told = client.get("/api/contacts").text
        assert [mark for mark in MARKS if mark in told + read_rows(store)] == []


def test_an_operator_says_once_that_the_store_was_put_back(run: Run, tmp_path: Path) -> None:  # the fixture
    plant_partner(run, tmp_path)
    (joined,) = json.loads(run("partner", "partnerships", "list", "--json"))
    assert run("partner", "sync", "confirm-restore") == joined["id"]
    assert "see `status`" in run("partner", "sync", "confirm-restore", code=1)
    assert "restore confirmed" in run("partner", "sync", "journal", joined["id"])


def test_a_list_that_can_not_be_written_is_one_clear_line(run: Run, tmp_path: Path) -> None:  # the fixture
    plant_partner(run, tmp_path)
    (tmp_path / "partner.db.erasures").mkdir()
    said = run("partner", "erasures", "contact", "1", code=1)
    assert "partner.db.erasures can not be" in said and "\n" not in said


MISTAKES = [
    (("shared-deals", "come-back", "99"), "99"),
    (("trash", "restore", "99"), "99"),
    (("erasures", "deal", "99"), "99"),
    (("brake", "release", "nobody", "--out"), "nobody"),
    (("brake", "drop", "nobody"), "--in"),
    (("companies", "merge", "98", "99"), "98"),
    (("contacts", "merge", "98", "99"), "98"),
]


@pytest.mark.parametrize(("arguments", "told"), MISTAKES, ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "")
def test_a_mistake_is_one_clear_line(run: Run, arguments: tuple[str, ...], told: str) -> None:  # the fixture
    run("partner", "migrate")
    run("partner", "seed")
    said = run("partner", *arguments, code=1)
    assert told in said and "Traceback" not in said and "\n" not in said
