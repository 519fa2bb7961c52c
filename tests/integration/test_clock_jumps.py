"""A clock that went back by hours stops nothing, and one that is ahead is told."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert, select

from shared_schema.contract.documents import Document
from shared_schema.crm.database import Database
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.crm.tables import partnerships, shared_records
from shared_schema.sync import leases, metrics, verification
from shared_schema.sync.effects import make_reactions
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.status import read_status
from shared_schema.sync.tables import peers
from tests.integration.test_dead_letters import Inbox, P, open_inbox, person
from tests.property.nodes import UID, Ticking
from tests.tables import make_tables

HOUR_MS = 3_600_000
MADE_MS = 1_790_412_497_678


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    store = Database(database_url)
    await make_tables(database_url)
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


@pytest.fixture
async def inbox(database_url: str) -> AsyncIterator[Inbox]:
    """The vendor's end of a stream, by a clock that the test sets, just before the peer's events were made."""
    async with open_inbox(database_url) as opened:
        opened.station.clock = opened.station.incarnation.clock = Ticking("inbox")
        opened.station.clock.ms = MADE_MS
        row = {"own_name": "Acme", "peer_name": "Initech", "status": "active", "broker": "", "terms": "{}", "created_ms": 1}
        async with opened.station.database.transaction() as tx:
            await tx.execute(insert(partnerships).values(id=P, **row))
        yield opened


def write(count: int, stamp_ms: int, value_ms: int) -> bytes:
    """An event with a stamp of its own, and of the value that it brings."""
    made = json.loads(person(count))
    made["stamp"] = [stamp_ms, 0]
    made["data"]["records"][0]["fields"]["name"]["siblings"][0]["stamp"] = [value_ms, 0]
    return json.dumps(made).encode()


async def read_ahead(inbox: Inbox) -> tuple[Any, Any]:
    async with inbox.station.database.reading() as connection:
        (row,) = await read_status(connection, inbox.station.clock.now_ms())
    return row["stamp_ahead_ms"], row["stamp_ahead_ms_ago"]


async def test_a_stamp_far_ahead_is_merged_not_followed_and_the_status_says_by_how_much_and_when(inbox: Inbox) -> None:
    incarnation, counter = inbox.station.incarnation, metrics.stamps_ahead.labels(P)
    before = counter._value.get()
    await inbox.put(write(1, MADE_MS + 4_999, MADE_MS + 4_999))
    assert (await read_ahead(inbox), counter._value.get()) == ((None, None), before)
    assert await inbox.rows(select(peers)) == [], "an ordinary event writes nothing about the peer"
    assert incarnation.last.physical == MADE_MS + 4_999
    await inbox.put(write(2, MADE_MS + HOUR_MS, MADE_MS), write(3, MADE_MS, MADE_MS + 2 * HOUR_MS))
    assert (await read_ahead(inbox), counter._value.get()) == ((2 * HOUR_MS, 0), before + 2)
    assert incarnation.last.physical == MADE_MS + 4_999
    assert len(await inbox.rows(select(shared_records))) == 3
    inbox.station.clock.ms += 60_000
    await inbox.put(write(4, MADE_MS, MADE_MS))
    assert (await read_ahead(inbox), counter._value.get()) == ((2 * HOUR_MS, 60_000), before + 2)


async def test_a_clock_that_was_measured_by_the_peers_heartbeats_stays_measured_when_a_stamp_is_ahead(inbox: Inbox) -> None:
    heard = {"heard_ms": 1, "skew_ms": 7, "backlog": 3, "whole_ms": 5}
    async with inbox.station.database.transaction() as tx:
        await tx.execute(insert(peers).values(partnership=P, **heard))
    await inbox.put(write(1, MADE_MS + HOUR_MS, MADE_MS))
    ((*_, ahead_ms, at_ms),) = rows = await inbox.rows(select(*(peers.c[name] for name in (*heard, "ahead_ms", "ahead_at_ms"))))
    assert list(rows[0])[:4] == list(heard.values())
    assert (ahead_ms, at_ms) == (HOUR_MS, MADE_MS)
