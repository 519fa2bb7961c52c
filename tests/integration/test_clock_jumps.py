"""A clock that went back by hours stops nothing."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert

from shared_schema.contract.documents import Document
from shared_schema.crm.database import Database
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.crm.tables import metadata
from shared_schema.sync import leases, verification
from shared_schema.sync.effects import make_reactions
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.tables import peers
from tests.property.nodes import UID, Ticking

HOUR_MS = 3_600_000


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    store = Database(database_url)
    async with store.transaction() as tx:
        await tx.run_sync(metadata.create_all)
    yield store
    await store.close()


async def test_the_lease_of_a_dead_relay_runs_out_although_the_clock_went_back(database: Database) -> None:
    clock = Ticking("clock")
    async with database.transaction() as tx:
        assert await leases.take(tx, "relay:acme", "dead", "1", clock.now_ms())
        assert not await leases.take(tx, "relay:acme", "other", "2", clock.now_ms() - 1_000)
        assert await leases.take(tx, "relay:acme", "other", "2", clock.now_ms() - 2 * HOUR_MS)


async def test_a_look_without_an_answer_is_taken_again_although_the_clock_went_back(database: Database) -> None:
    clock = Ticking("clock")
    incarnation = Incarnation("partner", clock)
    async with database.transaction() as tx:
        await tx.execute(insert(peers).values(partnership="acme", heard_ms=clock.now_ms(), skew_ms=0, backlog=0))
        await verification.start(tx, "acme", clock.now_ms(), repair=False)
        assert await verification.ask(tx, incarnation, "acme") is not None
        assert await verification.ask(tx, incarnation, "acme") is None
        clock.ms -= 2 * HOUR_MS
        assert await verification.ask(tx, incarnation, "acme") is not None


def test_a_reaction_is_due_at_once_although_the_clock_went_back() -> None:
    record = SharedRecord("acme", UID, "registration", None, UID, "partner", Document())
    (reaction,) = make_reactions(record, lambda _record: frozenset({"decide"}), Ticking("clock").now_ms())
    assert reaction["due_ms"] == 0
