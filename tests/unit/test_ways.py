"""Which way leads to a partnership's broker, and which users are whose."""

import stat
from pathlib import Path
from typing import Any

import pytest

from deploy.kafka.certificates import make_authority
from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.sync import joining
from shared_schema.sync.broker import KafkaBroker, Lines
from shared_schema.sync.security import Credential, write_secret
from shared_schema.sync.transport import BrokerUnavailable
from vendor_node.partners import users_of

CA = make_authority("A vendor").pem


def make_bundle(partnership: str, address: str) -> dict[str, Any]:
    credential = {"user": f"{partnership}.1", "password": f"secret of {partnership}"}
    return {"partnership": partnership, "broker": address, "security": "sasl_tls", "ca": CA, "credential": credential}


async def test_a_partner_of_two_vendors_comes_to_each_with_its_own_credential(tmp_path: Path) -> None:
    for partnership, address in (("initech-acme", "one:9093"), ("hooli-acme", "two:9093")):
        joining.keep_access(tmp_path, make_bundle(partnership, address))
    lines = Lines(KafkaBroker("three:9092"), tmp_path)
    found = {name: lines.find(name) for name in ("initech-acme", "hooli-acme", "other")}
    assert [broker.address for broker in found.values()] == ["one:9093", "two:9093", "three:9092"]
    assert found["initech-acme"].security.read_credential() == Credential("initech-acme.1", "secret of initech-acme")
    assert found["other"].security.protocol == "plaintext" and lines.find("hooli-acme") is found["hooli-acme"]


async def test_a_new_bundle_changes_the_credential_of_a_way_that_is_open(tmp_path: Path) -> None:
    joining.keep_access(tmp_path, make_bundle("acme", "one:9093"))
    broker = Lines(KafkaBroker("three:9092"), tmp_path).find("acme")
    joining.keep_access(tmp_path, {**make_bundle("acme", "one:9093"), "credential": {"user": "acme.2", "password": "new"}})
    assert broker.security.read_credential() == Credential("acme.2", "new")


async def test_a_kept_credential_that_can_not_be_read_is_said_and_never_replaced_by_plaintext(tmp_path: Path) -> None:
    file = joining.access_file(tmp_path, "acme")
    file.write_text("{")
    broker = Lines(KafkaBroker("127.0.0.1:1"), tmp_path).find("acme")
    assert broker.security.protocol == "sasl_tls"
    with pytest.raises(BrokerUnavailable, match=f"{file} can not be read.*join again"):
        await broker.open_producer()


def test_a_bundle_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no certificate"):
        joining.keep_access(tmp_path, {**make_bundle("acme", "one:9093"), "ca": "-----BEGIN NONSENSE-----"})
    with pytest.raises(WrongState, match="can not be kept"):
        joining.keep_access(tmp_path / "nowhere", make_bundle("acme", "one:9093"))
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_its_owners_alone_even_where_a_readable_file_was(tmp_path: Path) -> None:
    file = tmp_path / "bundle.json"
    file.write_text("old")
    file.chmod(0o644)
    write_secret(file, "new")
    assert file.read_text() == "new" and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["bundle.json"]


def test_users_belong_to_one_partnership_and_the_newest_is_last() -> None:
    users = ["acme-2.1", "acme.10", "acme.2", "acme.x", "acme", "acmeX1", "vendor"]
    assert users_of("acme", users) == ["acme.2", "acme.10"]
    assert users_of("acme-2", users) == ["acme-2.1"]
