"""The stage of the erasure tests: a pair whose every text carries a mark, and where the mark is still found."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from sqlalchemy import MetaData, select

from partner_node.registrations import share_from_contact
from shared_schema.contract.topics import record_topic
from shared_schema.crm import customers, private_notes
from shared_schema.sync import views
from shared_schema.sync.braking import Limits
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_deal
from shared_schema.sync.notes import add_comment, add_note
from shared_schema.sync.offers import put_eligibility, put_product, put_quote
from shared_schema.sync.station import Keeping
from shared_schema.sync.topic_reading import read_batches
from shared_schema.sync.transport import Broker
from tests.integration.pair import DETAILS, Pair, Side, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

MARK = "qvxzmark"  # in every text that is erased


class Stage:
    """A pair, where its bytes are, and how its topics forget."""

    def __init__(self, pair: Pair, places: list[Path], forget: Callable[[], Any]) -> None:
        self.pair, self.places, self.forget = pair, places, forget

    async def find_ends(self) -> dict[str, int]:
        """Up to where both topics are written."""
        topics = [record_topic(self.pair.partnership, sender) for sender in ("partner", "vendor")]
        return {topic: info.end_offset for topic, info in (await self.pair.vendor.broker.describe_topics(topics)).items()}

    async def sent_since(self, ends: dict[str, int], mark: str = MARK) -> tuple[list[str], int]:
        """The records behind these ends that hold the mark, in key, value or headers, as a reader gets them; and how many there are."""
        found, count, broker = [], 0, self.pair.vendor.broker
        now = await self.find_ends()
        for topic, begin in ends.items():
            async with aclosing(read_batches(broker, topic, begin, now[topic])) as batches:
                async for batch in batches:
                    count += len(batch)
                    found += [f"{topic} {each.offset}" for each in batch if mark in repr((each.key, each.value, each.headers))]
        return found, count

    async def traces(self, mark: str = MARK) -> list[str]:
        """Where the mark is still found: in rows, and as bytes in the stores' files."""
        found = []
        for side in (self.pair.partner, self.pair.vendor):
            found += [f"{side.station.spec.side}: {each}" for each in await rows_with(side, mark)]
        for place in self.places:
            for path in [place] if place.is_file() else sorted(each for each in place.rglob("*") if each.is_file()):
                found += [str(path)] if mark.encode() in path.read_bytes() else []
        return found


async def rows_with(side: Side, mark: str) -> list[str]:
    """The tables that show a text anywhere."""
    found = []
    async with side.station.database.reading() as connection:
        there = MetaData()
        await connection.run_sync(there.reflect)
        for table in there.sorted_tables:
            for row in await connection.execute(select(table)):
                if any(mark in (each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each)) for each in row):
                    found.append(f"{table.name} {row}")
    return found


@asynccontextmanager
async def open_stage(tmp_path: Path, address: str, database_url: str) -> AsyncIterator[Stage]:
    """Two nodes that share an active deal of a contact, with a note of each side, and everything else marked too.

    Without an address of a broker they share one in memory.
    """
    cluster = MemoryCluster()
    brokers: tuple[Broker, Broker] = (
        (KafkaBroker(address), KafkaBroker(address)) if address else (MemoryBroker(cluster), MemoryBroker(cluster))
    )
    places = [tmp_path / "partner.db", tmp_path / "partner.db-wal"]
    if database_url.startswith("sqlite"):
        places += [tmp_path / "vendor.db", tmp_path / "vendor.db-wal"]
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), brokers) as opened:
        for side in (opened.partner, opened.vendor):
            path = tmp_path / f"{side.station.spec.side}.erasures"
            side.station.keeping = Keeping(brake=Limits(10_000, 100), erasure_list=path)
        await opened.become_partners()
        opened.partner.start()
        opened.vendor.start()
        await plant(opened)

        async def forget() -> None:
            for sender in ("partner", "vendor"):
                topic = record_topic(opened.partnership, sender)
                await (forget_kafka(address, topic) if address else forget_memory(cluster, topic))

        yield Stage(opened, places, forget)


async def forget_memory(cluster: MemoryCluster, topic: str) -> None:
    cluster.trim(topic)


async def forget_kafka(address: str, topic: str) -> None:
    """What retention does, at once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=-1)})
    await admin.close()


async def plant(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    async with partner.station.working(partner.author) as work:
        company = await customers.add_company(work.tx, {"name": "Globex", "domain": "globex.example"}, work.now_ms)
        person = {"name": f"Hank {MARK}", "email": f"{MARK}@globex.example", "phone": "+49 30 901820", "company_id": company}
        contact = await customers.add_contact(work.tx, person, work.now_ms)
        details = {name: f"{value} {MARK}" for name, value in DETAILS.items()} | {"requested_rep": f"rep {MARK}"}
        await share_from_contact(work, pair.partnership, contact, {"name": f"Roll-out {MARK}", "next_step": MARK}, details)

    async def active() -> bool:
        return bool(await partner.read(views.list_shared_deals, {"status": "active"}))

    await until(active)
    await partner.do(put_product, 1, f"SKU-{MARK}", f"Seats {MARK}", "5")
    await vendor.do(put_quote, 1, {"number": f"Q-{MARK}", "title": MARK})
    await vendor.do(put_eligibility, 1, {"eligible": True, "reason": MARK})
    await partner.do(add_note, 1, f"the partner's {MARK}")
    await vendor.do(add_note, 1, f"the vendor's {MARK}")
    await pair.settle()
    await vendor.do(add_comment, await note_of(vendor, "partner"), f"a comment {MARK}")
    await partner.do(save_deal, 1, {"name": f"Renamed {MARK}", "properties": {"ours": MARK}})
    for side in (partner, vendor):
        async with side.station.working(side.author) as work:
            await private_notes.add(work.tx, 1, side.author.user_id, "private" if side is vendor else f"private {MARK}", work.now_ms)
    await pair.settle()


async def note_of(side: Side, maker: str) -> int:
    """This side's id of the note that a side wrote."""
    notes = views.LOCAL_IDS["note"]
    return int((await side.rows(select(notes.c.id).where(notes.c.side == maker)))[0].id)
