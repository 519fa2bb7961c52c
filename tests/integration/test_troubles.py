"""A broker that can not be used says why: four reasons, four messages with a remedy each, once in the log, in status and in readiness."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy.demo.processes import NodeProcess
from deploy.kafka.certificates import make_authority
from deploy.kafka.secured import SecuredKafka
from partner_node.spec import SPEC as PARTNER
from shared_schema.contract.topics import record_topic
from shared_schema.crm.database import Database
from shared_schema.crm.migrations import migrate
from shared_schema.sync import joining, partnerships
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.broker.access import KafkaGate
from shared_schema.sync.broker.reasons import client_options
from shared_schema.sync.broker.topics import RETENTION_MS, settings_of
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.security import Security
from shared_schema.sync.station import Author, Station
from shared_schema.sync.status import read_status
from shared_schema.sync.transport import AccessDenied, BrokerError, BrokerUnavailable, BrokerUntrusted, CredentialRefused, TopicMissing
from shared_schema.sync.troubles import Reporter
from tests.integration.pair import until
from tests.integration.wire import Wire, open_wire
from vendor_node.warden import look_after

NOWHERE = "127.0.0.1:1"
PASSWORD = "correct horse battery staple"  # of nobody


def forge_ca(tmp_path: Path) -> Path:
    file = tmp_path / "another-ca.pem"
    file.write_text(make_authority("Somebody else").pem)
    return file


Spoil = Callable[[SecuredKafka, Security, Path], tuple[str, Security]]
REASONS: dict[str, tuple[Spoil, type[BrokerError], tuple[str, ...]]] = {
    "credential": (
        lambda kafka, security, _: (kafka.address, replace(security, password="wrong")),
        CredentialRefused,
        ("refuses the user troubled", "DEALBRIDGE_KAFKA_PASSWORD_FILE", "partners rotate"),
    ),
    "certificate": (
        lambda kafka, security, tmp_path: (kafka.address, replace(security, ca=forge_ca(tmp_path))),
        BrokerUntrusted,
        ("another-ca.pem vouches for", "DEALBRIDGE_KAFKA_CA"),
    ),
    "access": (
        lambda kafka, security, _: (kafka.address, security),
        AccessDenied,
        ("no right to see dealbridge.troubled.from-vendor", "partners resume"),
    ),
    "down": (
        lambda _, security, __: (NOWHERE, security),
        BrokerUnavailable,
        ("does not answer", "is the broker running, and DEALBRIDGE_KAFKA its address?"),
    ),
}


@pytest.fixture
async def security(secured_kafka: SecuredKafka) -> Security:
    """A user without any right."""
    await KafkaGate(secured_kafka.address, secured_kafka.operator).admit("troubled", PASSWORD)
    return secured_kafka.security("troubled", PASSWORD)


@pytest.mark.parametrize("kind", REASONS)
async def test_each_reason_has_a_message_of_its_own_with_its_remedy_and_is_logged_once(
    kind: str, secured_kafka: SecuredKafka, security: Security, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, error, told = REASONS[kind]
    broker = KafkaBroker(*spoil(secured_kafka, security, tmp_path))
    for _ in range(3):
        with pytest.raises(BrokerError) as caught:
            await broker.open_reader("dealbridge.troubled.from-vendor", 0)
        assert type(caught.value) is error and all(part in str(caught.value) for part in told), caught.value
    [trouble] = broker.list_troubles()
    assert (trouble.kind, trouble.why) == (kind, str(caught.value))
    said = [record for record in caplog.records if record.name.startswith("shared_schema") and record.levelno == logging.ERROR]
    assert [record.getMessage() for record in said] == [trouble.why]
    await broker.stop()


async def test_a_node_that_speaks_plaintext_to_a_secured_broker_is_told_so(secured_kafka: SecuredKafka) -> None:
    with pytest.raises(BrokerUnavailable, match="does it want more than plaintext"):
        await KafkaBroker(secured_kafka.address).open_producer()


async def test_a_node_that_speaks_tls_to_a_plaintext_broker_is_told_so(kafka_address: str, security: Security) -> None:
    with pytest.raises(BrokerUnavailable, match="does it speak TLS there"):
        await KafkaBroker(kafka_address, security).open_producer()


@pytest.mark.parametrize("broken", ["ca", "password_file", "access_file"])
async def test_a_file_that_is_not_there_is_named(broken: str, security: Security, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    spoiled = replace(security, password="", **{broken: missing})
    with pytest.raises(BrokerUnavailable, match=str(missing)):
        await KafkaBroker(NOWHERE, spoiled).open_producer()


async def test_no_password_is_ever_logged_whatever_the_level(
    secured_kafka: SecuredKafka, security: Security, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    broker = KafkaBroker(secured_kafka.address, secured_kafka.operator)
    await broker.start()
    await KafkaGate(secured_kafka.address, secured_kafka.operator).admit("troubled", PASSWORD)
    producer = await broker.open_producer()
    await producer.close()
    await broker.stop()
    secrets = (PASSWORD, secured_kafka.password)
    assert caplog.records and not [each for each in secrets if each in caplog.text or each in repr(security) + repr(broker.security)]


async def test_topics_with_other_settings_or_missing_are_told_with_what_to_do_until_they_are_right(
    secured_kafka: SecuredKafka, tmp_path: Path
) -> None:
    async with open_wire(secured_kafka, tmp_path) as wire:
        vendor, broker = wire.pair.vendor, wire.pair.vendor.broker
        await look_after(vendor.station, broker)
        assert broker.list_troubles() == []
        topic = record_topic(wire.pair.partnership, "vendor")
        await change_retention(wire, topic, "1000")

        async def told() -> bool:
            await look_after(vendor.station, broker)
            return bool(broker.list_troubles())

        await until(told)
        [trouble] = broker.list_troubles()
        assert trouble.kind == "settings" and f"--topic {topic} --add-config retention.ms={RETENTION_MS}" in trouble.why
        await Reporter(vendor.station).report([("", trouble)])
        [status] = await vendor.read(read_status, vendor.station.clock.now_ms())
        assert (status["trouble"], status["trouble_why"]) == ("settings", trouble.why)
        await change_retention(wire, topic, str(RETENTION_MS))

        async def right() -> bool:
            return not await told()

        await until(right)


async def change_retention(wire: Wire, topic: str, value: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=wire.kafka.address, **client_options(wire.kafka.operator))
    await admin.start()
    changed = {**settings_of(topic), "retention.ms": value}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, changed)])
    await admin.close()


async def test_a_missing_topic_is_told_by_the_vendor_who_alone_creates_it(secured_kafka: SecuredKafka) -> None:
    broker = KafkaBroker(secured_kafka.address, await secured_kafka.add_vendor())
    [trouble] = await broker.check_topics(["dealbridge.missing.from-vendor"])
    assert trouble.kind == "missing" and "partners topics" in trouble.why
    with pytest.raises(TopicMissing):
        await broker.open_reader("dealbridge.missing.from-vendor", 0)
    await broker.stop()


async def plant_partner(url: str, secrets: Path, bundle: dict[str, Any]) -> None:
    database = Database(url)
    await migrate(database, PARTNER.migrations)
    await joining.join(Station(PARTNER, database, SystemClock()), Author(), secrets, bundle)
    await database.close()


async def test_a_running_node_tells_it_in_readiness_and_status_and_in_one_line_of_its_log(
    secured_kafka: SecuredKafka, security: Security, tmp_path: Path
) -> None:
    """As a process that only syncs, with a bundle whose password is wrong: it is not ready, and its store knows why."""
    url = f"sqlite:///{tmp_path}/partner.db"
    bundle = {"format": partnerships.BUNDLE_FORMAT, "partnership": "troubled", "vendor": "Initech", "partner": "Acme"}
    bundle |= {"broker": secured_kafka.address, "policy": {}, "security": "sasl_tls", "ca": secured_kafka.ca.read_text()}
    await plant_partner(url, tmp_path, {**bundle, "credential": {"user": "troubled", "password": "stolen and changed"}})
    node = NodeProcess("partner", url, secured_kafka.address, tmp_path)
    node.settings |= {"DEALBRIDGE_SECRETS": str(tmp_path), "DEALBRIDGE_ROLE": "sync"}
    node.start()
    database = Database(url)
    try:

        async def told() -> bool:
            async with database.reading() as connection:
                [status] = await read_status(connection, SystemClock().now_ms())
            return status["trouble"] == "credential" and "refuses the user troubled" in status["trouble_why"]

        await until(told)
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{node.address}/readyz")
        assert answer.status_code == 503 and answer.text.startswith("not ready\n") and "partners rotate" in answer.text
    finally:
        node.stop()
        await database.close()
    lines = node.log.read_text().splitlines()
    assert len([line for line in lines if " ERROR shared_schema" in line and "refuses the user troubled" in line]) == 1
    assert "stolen and changed" not in node.log.read_text()
    assert json.loads((tmp_path / "troubled.json").read_text())["password"] == "stolen and changed"
    assert (tmp_path / "troubled.json").stat().st_mode & 0o777 == 0o600
