"""Two nodes with an active deal, one of whose stores is put back to an older copy while its node is down."""

import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from shared_schema.contract.topics import record_topic
from shared_schema.crm import users
from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.tables import shared_records
from shared_schema.sync import views
from shared_schema.sync.deals import save_shared
from shared_schema.sync.notes import add_note
from shared_schema.sync.tables import journal, restorations
from tests.integration.pair import Pair, Side, until
from tests.postgres import EmbeddedPostgres
from tests.twins.memory_broker import MemoryCluster
from vendor_node.reps import add_rep


class Rewindable:
    """A store of which copies are kept, and put back while its node is down."""

    def __init__(self, url: str, postgres: EmbeddedPostgres | None) -> None:
        self.url = url
        self.postgres = postgres
        self.copies = 0

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    async def keep(self, side: Side) -> str:
        """A copy of the store as it is now; the node is stopped for it, and stays so."""
        await side.stop()
        await side.station.database.close()
        self.copies += 1
        if self.postgres is not None:
            return self.postgres.fresh_database(self.name).rsplit("/", 1)[-1]
        path = self.url.removeprefix("sqlite:///")
        copy = f"{path}.{self.copies}"
        database = Database(self.url)
        async with database.transaction() as tx:
            await tx.execute(text("SELECT 1"))
        await database.close()
        for ending in ("", "-wal"):
            if Path(path + ending).exists():
                shutil.copy(path + ending, copy + ending)
        return copy

    async def put_back(self, side: Side, copy: str) -> None:
        """The store is as it was when the copy was made; the node that comes up is another process."""
        await side.stop()
        await side.station.database.close()
        if self.postgres is not None:
            self.url = self.postgres.fresh_database(copy)
        else:
            path = self.url.removeprefix("sqlite:///")
            for ending in ("", "-wal", "-shm"):
                Path(path + ending).unlink(missing_ok=True)
                if Path(copy + ending).exists():
                    shutil.copy(copy + ending, path + ending)
        await side.restart(self.url)


class Scene:
    """Two nodes with an active deal, one of whose stores can be put back."""

    def __init__(self, pair: Pair, stores: dict[str, Rewindable], cluster: MemoryCluster | None) -> None:
        self.pair = pair
        self.stores = stores
        self.cluster = cluster

    def side(self, name: str) -> Side:
        return self.pair.partner if name == "partner" else self.pair.vendor

    async def keep(self, name: str) -> str:
        copy = await self.stores[name].keep(self.side(name))
        self.side(name).start()
        return copy

    async def put_back(self, name: str, copy: str) -> None:
        await self.stores[name].put_back(self.side(name), copy)

    async def mended(self, name: str) -> None:
        """Until the store is restored, and everything has arrived."""
        side = self.side(name)

        async def over() -> bool:
            try:
                return bool(await told(side, "store restored")) and not await side.rows(select(restorations.c.partnership))
            except DatabaseUnavailable:
                return False

        await until(over)
        await self.pair.settle()


async def told(side: Side, what: str) -> list[Any]:
    return await side.rows(select(journal).where(journal.c.what == what))


async def add_a_rep(work: Any, name: str) -> None:
    user_id = await users.add_user(work.tx, work.incarnation.new_uid(), name, f"{name.lower().replace(' ', '.')}@vendor.example")
    await add_rep(work.tx, user_id, {})


async def active(pair: Pair, count: int) -> None:
    async def so() -> bool:
        found = await pair.partner.read(views.list_shared_deals, {"status": "active"})
        return len(found) == count and all(row["rep_person"] for row in found)

    await until(so)
    await pair.settle()


async def work_on(pair: Pair) -> None:
    """What both sides do after the copy was made: edits, notes, and another deal with its rep."""
    await pair.partner.do(save_shared, 1, {"name": "Renamed by the partner"})
    await pair.vendor.do(save_shared, 1, {"next_step": "Set by the vendor"})
    await pair.partner.do(add_note, 1, "a note of the partner's")
    await pair.vendor.do(add_note, 1, "a note of the vendor's")
    await pair.settle()
    await pair.share_deal("Hooli")
    await active(pair, 2)


async def documents(side: Side) -> dict[str, str]:
    return {row.uid: row.document for row in await side.rows(select(shared_records.c.uid, shared_records.c.document))}


async def reps_of(side: Side) -> dict[str, str]:
    return {row.uid: row.rep_person for row in await side.rows(select(shared_deals.c.uid, shared_deals.c.rep_person))}


async def check_agree(pair: Pair) -> None:
    assert await documents(pair.partner) == await documents(pair.vendor)


async def lose_topic(scene: Scene, name: str) -> None:
    """A side's topic is empty, as after a loss or long retention."""
    topic = record_topic(scene.pair.partnership, "partner" if name == "partner" else "vendor")
    assert scene.cluster is not None
    scene.cluster.recreate_topic(topic)
