"""The keys of a stack are made once, are for those who need them, and are made anew where asked or due."""

from datetime import timedelta
from pathlib import Path

import pytest

from deploy.kafka.certificates import load_authority, make_authority, serves
from deploy.stack.broker_settings import Doors
from deploy.stack.keys import PARTS, Keys

DOORS = Doors.of({})


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    for part in (*PARTS, "authority"):
        (tmp_path / part).mkdir()
    made = Keys(tmp_path)
    made.make(PARTS, DOORS)
    return made


def read_all(keys: Keys) -> dict[str, str]:
    return {path.relative_to(keys.root).as_posix(): path.read_text() for path in keys.root.rglob("*") if path.is_file()}


def test_a_second_start_changes_nothing(keys: Keys) -> None:
    before = read_all(keys)
    keys.make(PARTS, DOORS)
    assert read_all(keys) == before


def test_every_secret_is_another_one_and_for_nobody_else(keys: Keys) -> None:
    passwords = {name: text for name, text in read_all(keys).items() if name.endswith("-password")}
    assert len(passwords) == 6 and len(set(passwords.values())) == 6 and all(len(each) > 40 for each in passwords.values())
    for path in keys.root.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o007 == 0, path
    for name in ("authority/ca-key.pem", "vendor/kafka-password", "broker/operator-password"):
        assert (keys.root / name).stat().st_mode & 0o077 == 0, name


def test_what_is_renewed_is_another_and_the_rest_stays(keys: Keys) -> None:
    before = read_all(keys)
    (keys.root / "vendor/kafka-password").unlink()
    keys.make(PARTS, DOORS)
    assert {name for name, text in read_all(keys).items() if before[name] != text} == {"vendor/kafka-password"}


def test_a_certificate_is_made_anew_for_another_host_and_when_its_end_is_near(keys: Keys) -> None:
    files = read_all(keys)
    authority = load_authority(files["authority/ca-key.pem"], files["authority/ca.pem"])
    pem = files["broker/broker.pem"]
    assert serves(pem, authority, DOORS.hosts, timedelta(days=60))
    assert not serves(pem, authority, DOORS.hosts, timedelta(days=1_000))
    assert not serves(pem, make_authority(), DOORS.hosts, timedelta())
    keys.make(PARTS, Doors.of({"BROKER_HOST": "kafka.initech.example", "BROKER_PORT": "9999"}))
    renewed = read_all(keys)
    assert renewed["broker/broker.pem"] != pem and renewed["authority/ca.pem"] == files["authority/ca.pem"]
    assert "OUTSIDE://kafka.initech.example:9999" in renewed["broker/server.properties"]


def test_a_side_alone_gets_no_more_than_its_own(tmp_path: Path) -> None:
    (tmp_path / "partner").mkdir()
    Keys(tmp_path).make(["partner"], DOORS)
    assert {path.name for path in (tmp_path / "partner").iterdir()} == {"database-password", "brokers"}
