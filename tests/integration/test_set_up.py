"""The stack's set-up makes two companies into partners, and is safe to run again, whatever was there or got lost on the way."""

from pathlib import Path
from typing import Any

import pytest

from deploy.kafka.secured import SecuredKafka
from deploy.stack import setup
from deploy.stack.company import SPECS, Company
from deploy.stack.setup import SetUpFailed, pair, set_up
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.migrations import migrate
from shared_schema.crm.users import find_bearer
from shared_schema.sync import joining, partnerships
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.broker.access import KafkaGate
from shared_schema.sync.settings import Settings, secure
from shared_schema.sync.station import Author
from shared_schema.sync.transport import BrokerUnavailable, CredentialRefused
from vendor_node import partners

Companies = tuple[Company, Company]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
async def companies(secured_kafka: SecuredKafka, tmp_path: Path) -> Companies:
    """Two empty stores, and the vendor's password as a file."""
    found = []
    for side, name in (("vendor", "Initech"), ("partner", "Acme")):
        secrets = tmp_path / side
        (secrets / "brokers").mkdir(parents=True)
        (secrets / "kafka-password").write_text("a-password-of-the-vendor\n")
        settings = Settings(database=f"sqlite:///{tmp_path}/{side}.db", kafka=secured_kafka.address, organisation=name)
        if side == "vendor":
            credential = {"kafka_user": "stack", "kafka_password_file": str(secrets / "kafka-password"), "kafka_ca": str(secured_kafka.ca)}
            settings = settings.model_copy(update=credential)
        found.append(Company(SPECS[side], settings, secrets))
    for company in found:
        async with company.open(migrated=False) as station:
            await migrate(station.database, company.spec.migrations)
    return found[0], found[1]


def gate_of(kafka: SecuredKafka) -> KafkaGate:
    return KafkaGate(kafka.address, kafka.operator)


async def list_partnerships(company: Company) -> list[dict[str, object]]:
    async with company.open() as station, station.database.reading() as connection:
        return await partnerships.list_all(connection)


async def can_come_in(company: Company, partnership: str) -> bool:
    """Whether what the partner keeps opens the broker, and its own topics with it."""
    way = joining.find_way(company.brokers, partnership, "")
    assert way is not None
    broker = KafkaBroker(*way)
    await broker.start()
    try:
        return len(await broker.describe_topics([f"dealbridge.{partnership}.from-partner"])) == 1
    finally:
        await broker.stop()


class StrictBroker(KafkaGate):
    """A broker that refuses everybody."""

    async def admit(self, user: str, password: str) -> None:
        raise CredentialRefused(f"refuses the user operator, and so {user}")


async def test_a_refused_credential_is_told_at_once(secured_kafka: SecuredKafka, companies: Companies, capsys: Capture) -> None:
    with pytest.raises(CredentialRefused):
        await set_up(StrictBroker(secured_kafka.address, secured_kafka.operator), *companies)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("outage", [BrokerUnavailable("it does not answer"), DatabaseUnavailable("it starts")])
async def test_who_is_away_for_a_moment_amid_it_is_waited_for(
    secured_kafka: SecuredKafka, companies: Companies, monkeypatch: pytest.MonkeyPatch, outage: Exception
) -> None:
    join, tried = joining.join, []

    async def join_late(*arguments: Any) -> str:
        tried.append(1)
        if len(tried) == 1:
            raise outage
        return await join(*arguments)

    monkeypatch.setattr(setup, "PAUSE_S", 0.01)
    monkeypatch.setattr(joining, "join", join_late)
    await set_up(gate_of(secured_kafka), *companies)
    (row,) = await list_partnerships(companies[0])
    assert await can_come_in(companies[1], str(row["id"])) and len(tried) == 2


async def test_two_empty_companies_are_partners_with_an_admin_each_and_again_changes_nothing(
    secured_kafka: SecuredKafka, companies: Companies
) -> None:
    await set_up(gate_of(secured_kafka), *companies)
    tokens = [company.token_file.read_text() for company in companies]
    for company, token in zip(companies, tokens, strict=True):
        async with company.open() as station, station.database.reading() as connection:
            bearer = await find_bearer(connection, token.strip())
        assert bearer is not None and bearer["role"] == "admin"
        assert company.token_file.stat().st_mode & 0o077 == 0
    (row,) = await list_partnerships(companies[0])
    partnership = str(row["id"])
    assert await can_come_in(companies[1], partnership)
    kept = joining.access_file(companies[1].brokers, partnership).read_text()
    await set_up(gate_of(secured_kafka), *companies)
    assert [company.token_file.read_text() for company in companies] == tokens
    assert [each["id"] for each in await list_partnerships(companies[0])] == [partnership]
    assert joining.access_file(companies[1].brokers, partnership).read_text() == kept


async def test_what_got_lost_on_the_way_is_made_again_for_the_same_partnership(secured_kafka: SecuredKafka, companies: Companies) -> None:
    await set_up(gate_of(secured_kafka), *companies)
    (row,) = await list_partnerships(companies[0])
    partnership = str(row["id"])
    joining.access_file(companies[1].brokers, partnership).unlink()
    await set_up(gate_of(secured_kafka), *companies)
    assert await can_come_in(companies[1], partnership)
    users = await gate_of(secured_kafka).list_users()
    assert partners.users_of(partnership, users) == [f"{partnership}.2"]


async def test_who_is_suspended_stays_so(secured_kafka: SecuredKafka, companies: Companies) -> None:
    await set_up(gate_of(secured_kafka), *companies)
    vendor, partner = companies
    broker = KafkaBroker(vendor.settings.kafka, secure(vendor.settings))
    await broker.start()
    try:
        async with vendor.open() as station:
            (row,) = await list_partnerships(vendor)
            await partners.change_status(station, Author(), broker, str(row["id"]), "suspended")
    finally:
        await broker.stop()
    joining.access_file(partner.brokers, str(row["id"])).unlink()
    await set_up(gate_of(secured_kafka), *companies)
    assert [each["status"] for each in await list_partnerships(vendor)] == ["suspended"]
    assert joining.find_way(partner.brokers, str(row["id"]), "") is None


async def test_a_broker_that_does_not_do_it_is_an_error_that_says_so(secured_kafka: SecuredKafka, companies: Companies) -> None:
    vendor, partner = companies
    nobody = KafkaBroker(vendor.settings.kafka, secured_kafka.security("nobody", "wrong"))
    await nobody.start()
    try:
        async with vendor.open() as here, partner.open() as there:
            with pytest.raises(SetUpFailed, match="nobody"):
                await pair(here, there, nobody, companies)
    finally:
        await nobody.stop()
    await set_up(gate_of(secured_kafka), *companies)
    (row,) = await list_partnerships(vendor)
    assert await can_come_in(partner, str(row["id"]))
