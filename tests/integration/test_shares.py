"""Processes that sync one store, beside each other: each serves its share of the partnerships, whoever comes, ends or dies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NoReturn

import pytest
from msgspec.structs import replace
from sqlalchemy import select, update

from partner_node.spec import SPEC
from shared_schema.contract.codec import HEADER_CONTROL
from shared_schema.contract.topics import all_topics, record_topic
from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.sync import node, relay
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.leases import LEASE_MS
from shared_schema.sync.node import Node
from shared_schema.sync.station import Station
from shared_schema.sync.tables import leases, outbox
from tests.bench.population import make_edits, open_store, queue_edits
from tests.integration.pair import until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

WEEK_MS = 7 * 86_400_000
NAMES = [f"bench-{number:02}" for number in range(12)]


class Process:
    """A node, and the task that it is."""

    def __init__(self, url: str, cluster: MemoryCluster, number: int) -> None:
        self.database = Database(url)
        self.node = Node(Station(SPEC, self.database, SystemClock()), MemoryBroker(cluster))
        self.node.name = f"{number:016x}"  # else once in a while one would draw no share
        self.task = asyncio.create_task(self.node.run())

    @property
    def share(self) -> set[str]:
        return set(self.node.served)

    async def end(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        await self.database.close()


class Office:
    """One store with its partnerships, and the processes that sync it."""

    def __init__(self, url: str, database: Database) -> None:
        self.url = url
        self.database = database
        self.cluster = MemoryCluster()
        for each in NAMES:
            for topic in all_topics(each):
                self.cluster.create_topic(topic)
        self.processes: list[Process] = []

    def begin(self) -> Process:
        process = Process(self.url, self.cluster, len(self.processes))
        self.processes.append(process)
        return process

    async def is_shared_out(self, *processes: Process) -> bool:
        """Whether each of these serves some of the partnerships, and each partnership is served by one of these alone."""
        return all(each.share for each in processes) and sorted(each for process in processes for each in process.share) == NAMES

    async def settle(self, *processes: Process) -> None:
        await until(lambda: self.is_shared_out(*processes))

    async def queue(self, partnership: str, place: int) -> None:
        """A row to publish, of which nobody is told."""
        edit = make_edits(NAMES.index(partnership) * 10 + place + 1, 10)[-1]
        await queue_edits(self.database, [replace(edit, partnership=partnership)])

    async def is_all_published(self) -> bool:
        async with self.database.reading() as connection:
            return all((await connection.execute(select(outbox.c.published_ms))).scalars())

    def relayed(self, partnership: str) -> int:
        return self.count(partnership, None)

    def beats(self, partnership: str) -> int:
        return self.count(partnership, b"sync.heartbeat")

    async def has_beaten(self) -> bool:
        return all(self.beats(each) for each in NAMES)

    def count(self, partnership: str, control: bytes | None) -> int:
        records = self.cluster.logs[record_topic(partnership, "partner")].records
        return sum(dict(each.headers).get(HEADER_CONTROL) == control for each in records)


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    database = await open_store("partner", database_url, NAMES)
    office = Office(database_url, database)
    yield office
    for each in office.processes:
        await each.end()
    await database.close()


async def test_processes_share_the_partnerships_out_and_whoever_is_left_serves_all(office: Office) -> None:
    """What is queued meanwhile is published, although nobody rings."""
    first = office.begin()
    await office.settle(first)
    second = office.begin()
    await office.settle(first, second)
    for each in NAMES:
        await office.queue(each, 0)
    await until(office.is_all_published)
    await first.end()
    await office.settle(second)
    for each in NAMES:
        await office.queue(each, 1)
    await until(office.is_all_published)
    assert [office.relayed(each) for each in NAMES] == [2] * len(NAMES)


async def test_the_share_of_a_process_that_was_killed_is_taken_over(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing any more, and its relays' leases run out."""
    first = office.begin()
    second = office.begin()
    await office.settle(first, second)

    def refuse() -> NoReturn:
        raise DatabaseUnavailable("a dead process writes nothing")

    monkeypatch.setattr(first.database, "transaction", refuse)
    await first.end()
    await office.settle(second)
    for each in NAMES:
        await office.queue(each, 0)
    await until(office.is_all_published)
    assert [office.relayed(each) for each in NAMES] == [1] * len(NAMES)
    assert second.share == set(NAMES)


async def test_a_rest_between_heartbeats_costs_no_lease(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process renews the leases of all its relays at once; they themselves would not for a week."""
    monkeypatch.setattr(node, "APPEAR_S", 0.05)
    monkeypatch.setattr(relay, "REST_MS", WEEK_MS)
    before_ms = SystemClock().now_ms()
    first = office.begin()
    await office.settle(first)

    async def read_leases() -> list[int]:
        async with office.database.reading() as connection:
            of_relays = select(leases.c.expires_ms).where(leases.c.name.like("relay:%")).order_by(leases.c.name)
            return list((await connection.execute(of_relays)).scalars())

    async def are_there() -> bool:
        return len(await read_leases()) == len(NAMES)

    await until(are_there)
    await until(office.has_beaten)
    async with office.database.transaction() as tx:
        await tx.execute(update(leases).values(expires_ms=0))

    async def are_renewed() -> bool:
        return min(await read_leases()) > 0

    await until(are_renewed)
    assert min(await read_leases()) > before_ms + LEASE_MS
    assert [office.beats(each) for each in NAMES] == [1] * len(NAMES)


async def test_who_takes_a_share_over_cuts_no_commit_of_the_other_off(office: Office) -> None:
    """It would count as a lost connection, after which a process begins anew with all that it serves."""
    first = office.begin()
    await office.settle(first)
    for place in range(5):
        for each in NAMES:
            await office.queue(each, place)
        if place == 2:
            second = office.begin()
    await office.settle(first, second)
    await until(office.is_all_published)
    assert first.database.losses == 0
