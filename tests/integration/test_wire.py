"""A partner's life over a secured broker: what it sends arrives, a new credential loses nothing, and who is shut out is out."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest
from sqlalchemy import select

from deploy.kafka.secured import SecuredKafka
from shared_schema.contract.topics import record_topic
from shared_schema.crm.problems import WrongState
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.broker.access import KafkaGate
from shared_schema.sync.broker.reasons import client_options
from shared_schema.sync.deals import save_shared
from shared_schema.sync.tables import journal
from shared_schema.sync.transport import CredentialRefused
from tests.integration.pair import DEADLINE_S, until
from tests.integration.test_stream import Load, find_missing
from tests.integration.wire import Wire, open_wire
from vendor_node import partners
from vendor_node.warden import look_after


@pytest.fixture
async def wire(secured_kafka: SecuredKafka, tmp_path: Path) -> AsyncIterator[Wire]:
    async with open_wire(secured_kafka, tmp_path) as opened:
        yield opened


async def test_edits_of_both_sides_cross_over_tls_while_connections_end_and_are_opened_anew(wire: Wire) -> None:
    load = Load(wire.pair)
    await load.grow(25)
    await asyncio.sleep(wire.kafka.reauth_ms / 1000)  # every connection opened so far ends within this
    await load.grow(25)
    await load.end()
    assert await find_missing(wire.pair, load) == []


async def test_a_new_credential_under_load_loses_nothing_and_the_old_one_ends(wire: Wire) -> None:
    load = Load(wire.pair)
    await load.grow(10)
    rotated = await wire.do(partners.rotate)
    assert rotated.bundle is not None
    await load.grow(10)  # the old one works on
    await wire.join(rotated.bundle)
    await load.grow(10)
    assert (await wire.do(partners.retire)).complete
    await load.grow(10)
    await load.end()
    assert await find_missing(wire.pair, load) == []
    assert partners.users_of(wire.pair.partnership, await wire.operator.list_users()) == [f"{wire.pair.partnership}.2"]


async def test_a_suspended_partner_is_out_with_its_open_connections_and_nothing_is_lost_when_it_is_resumed(wire: Wire) -> None:
    load = Load(wire.pair)
    await load.grow(10)
    assert (await wire.do(partners.change_status, "suspended")).complete
    await wire.until_trouble(wire.pair.partner, "access")
    before = await find_ends(wire)
    await load.grow(25)
    assert await find_ends(wire) == before
    assert (await wire.do(partners.change_status, "active")).complete
    await load.grow(10)
    await load.end()
    assert await find_missing(wire.pair, load) == []
    await until_well(wire)
    assert await read_journal(wire) == ["partner invited", "credential made", "partner suspended", "partner resumed"]


async def find_ends(wire: Wire) -> dict[str, int]:
    """Where the partnership's topics end, as the operator sees them."""
    broker = KafkaBroker(wire.kafka.address, wire.kafka.operator)
    sides = [record_topic(wire.pair.partnership, side) for side in ("partner", "vendor")]
    found = await broker.describe_topics(sides)
    await broker.stop()
    return {name: info.end_offset for name, info in found.items()}


async def until_well(wire: Wire) -> None:
    async def well() -> bool:
        return not wire.troubles(wire.pair.partner)

    await until(well)


async def read_journal(wire: Wire) -> list[str]:
    """What the vendor's people did; all of it names who."""
    rows = await wire.pair.vendor.rows(
        select(journal.c.what, journal.c.actor).where(journal.c.registration.is_(None)).order_by(journal.c.id)
    )
    assert {row.actor for row in rows} == {"Victor"}
    return [row.what for row in rows]


async def test_a_revoked_partner_loses_its_rights_its_user_and_its_connections_for_good(wire: Wire) -> None:
    partner = wire.pair.partner
    await partner.stop()
    user = partner.broker.security.read_credential().user
    connection = await create_conn(*partner.broker.address.split(":"), **client_options(partner.broker.security))
    await connection.send(MetadataRequest([]))
    assert (await wire.do(partners.change_status, "terminated")).complete
    assert user not in await wire.operator.list_users()
    with pytest.raises(CredentialRefused, match=user):
        await KafkaBroker(partner.broker.address, partner.broker.security).open_producer()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(KafkaConnectionError):
            while True:  # the connection that was open ends when its session is over
                await connection.send(MetadataRequest([]))
                await asyncio.sleep(0.1)
    with pytest.raises(WrongState, match="revoked"):
        await wire.do(partners.change_status, "active")
    with pytest.raises(WrongState, match="terminated"):
        await wire.do(partners.rotate)


async def test_a_broker_that_is_started_anew_knows_who_is_left_after_others_were_dismissed(tmp_path: Path) -> None:
    kafka = SecuredKafka(tmp_path / "kafka")
    await asyncio.to_thread(kafka.start)
    try:
        gate = KafkaGate(kafka.address, kafka.operator)
        users = [f"{name}.1" for name in ("acme", "umbra", "hooli", "stark", "wonka", "tyrell")]
        for user in users:
            await gate.admit(user, "a password of theirs")
        await gate.dismiss(users[:-1])
        await asyncio.to_thread(kafka.restart)
        assert await gate.list_users() == ["operator", users[-1]]
        with pytest.raises(CredentialRefused):
            await KafkaBroker(kafka.address, kafka.security(users[0], "a password of theirs")).open_producer()
    finally:
        await asyncio.to_thread(kafka.stop)


async def test_what_was_said_while_the_broker_was_away_is_done_by_the_nodes_own_sync(wire: Wire) -> None:
    vendor = wire.pair.vendor
    broker = vendor.broker
    away = KafkaBroker("127.0.0.1:1", broker.security)
    vendor.broker = away
    done = await wire.do(partners.change_status, "terminated")
    assert not done.complete and "127.0.0.1:1" in str(done.remedy)
    vendor.broker = broker
    assert partners.users_of(wire.pair.partnership, await wire.operator.list_users())
    await look_after(vendor.station, broker)
    assert not partners.users_of(wire.pair.partnership, await wire.operator.list_users())


async def test_a_partner_whose_password_changed_without_it_waits_and_goes_on_with_a_new_bundle(wire: Wire) -> None:
    user = wire.pair.partner.broker.security.read_credential().user
    await wire.operator.admit(user, "another password")
    await wire.until_trouble(wire.pair.partner, "credential")
    await wire.pair.partner.do(save_shared, 1, {"next_step": "meanwhile"})
    rotated = await wire.do(partners.rotate)
    assert rotated.bundle is not None
    await wire.join(rotated.bundle)
    await wire.pair.settle()
    await wire.pair.check_same()
    await until_well(wire)
