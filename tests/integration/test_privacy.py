"""What is private stays: a private note crosses nowhere, and no partnership's stream carries anything of another."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import select

from partner_node.registrations import share_from_company
from partner_node.spec import SPEC as PARTNER
from shared_schema.contract.topics import record_topic
from shared_schema.crm import customers, private_notes
from shared_schema.crm.tables import metadata, shared_records
from shared_schema.sync import notes, partnerships
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.transport import Broker
from tests.integration.pair import DETAILS, Pair, Side, open_pair, until

SECRET = "they would pay twice as much"
WORDS = {"Acme": "aardvark", "Besta": "bumblebee"}


@pytest.fixture
async def three(database_url: str, kafka_address: str, tmp_path: Path) -> AsyncIterator[tuple[Pair, Side, str]]:
    """A vendor with two partners over one Kafka: the pair with Acme, Besta's node, and Besta's partnership."""
    async with AsyncExitStack() as stack:
        urls = (f"sqlite:///{tmp_path}/acme.db", database_url)
        pair = await stack.enter_async_context(open_pair(urls, (KafkaBroker(kafka_address), KafkaBroker(kafka_address))))
        await pair.become_partners()
        besta = Side(PARTNER, f"sqlite:///{tmp_path}/besta.db", KafkaBroker(kafka_address))
        stack.push_async_callback(besta.close)
        await besta.set_up("Bruno")
        bundle = await pair.vendor.do(partnerships.invite, "Initech", "Besta", "here", {})
        await partnerships.create_topics(pair.vendor.broker, bundle["partnership"])
        await besta.do(partnerships.join, bundle)
        for side in (pair.partner, pair.vendor, besta):
            side.start()
        yield pair, besta, bundle["partnership"]


async def share(side: Side, partnership: str, word: str) -> None:
    """A deal whose every text has the side's own word."""
    async with side.station.working(side.author) as work:
        values = {"name": f"{word} works", "domain": f"{word}.example", "country": "DE"}
        company_id = await customers.add_company(work.tx, values, work.now_ms)
        details = {name: f"{value} {word}" for name, value in DETAILS.items()}
        await share_from_company(work, partnership, company_id, {"name": f"{word} deal"}, details)
    await side.do(notes.add_note, 1, f"{word} note")


async def test_no_partnership_sees_anything_of_another(three: tuple[Pair, Side, str], tmp_path: Path) -> None:
    pair, besta, other = three
    await share(pair.partner, pair.partnership, WORDS["Acme"])
    await share(besta, other, WORDS["Besta"])

    async def arrived() -> bool:
        rows = await pair.vendor.rows(select(shared_records.c.uid).where(shared_records.c.kind == "note"))
        return len(rows) == 2

    await until(arrived)
    await pair.vendor.do(notes.add_comment, 1, "to the first")
    await pair.vendor.do(notes.add_comment, 2, "to the second")
    await pair.settle()
    await until(besta.is_quiet)
    for partnership, word in ((pair.partnership, WORDS["Besta"]), (other, WORDS["Acme"])):
        for sender in ("partner", "vendor"):
            values = await read_topic(pair.vendor.broker, record_topic(partnership, sender))
            assert values and not any(word.encode() in value for value in values), f"{word} is in {partnership} from {sender}"
    uids = {row.partnership: set() for row in await pair.vendor.rows(select(shared_records.c.partnership))}
    for uid, partnership in await pair.vendor.rows(select(shared_records.c.uid, shared_records.c.partnership)):
        uids[partnership].add(uid)
    assert len(uids) == 2
    for side, strange in ((pair.partner, other), (besta, pair.partnership)):
        text = await read_whole_store(side)
        assert strange not in text and not any(uid in text for uid in uids[strange] - set.intersection(*uids.values()))
    assert WORDS["Besta"] not in await read_whole_store(pair.partner)
    assert WORDS["Acme"] not in await read_whole_store(besta)


async def test_a_private_note_is_nowhere_but_in_its_own_table(three: tuple[Pair, Side, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    pair, besta, _ = three
    await share(pair.partner, pair.partnership, WORDS["Acme"])
    partner, vendor = pair.partner, pair.vendor
    async with partner.station.working(partner.author) as work:
        await private_notes.add(work.tx, 1, partner.author.user_id, SECRET, work.now_ms)
    assert [name for name in sorted(await table_names(partner)) if SECRET in await read_table(partner, name)] == ["private_notes"]
    await pair.settle()
    assert SECRET not in await read_whole_store(vendor) and SECRET not in await read_whole_store(besta)
    for sender in ("partner", "vendor"):
        values = await read_topic(vendor.broker, record_topic(pair.partnership, sender))
        assert values and not any(SECRET.encode() in value for value in values)
    assert caplog.text and SECRET not in caplog.text


async def read_topic(broker: Broker, topic: str) -> list[bytes]:
    """Everything that a topic holds."""
    info = (await broker.describe_topics([topic]))[topic]
    reader = await broker.open_reader(topic, info.start_offset)
    values: list[bytes] = []
    try:
        while len(values) < info.end_offset - info.start_offset:
            values += [each.value or b"" for each in await reader.fetch(1_000, 500)]
    finally:
        await reader.close()
    return values


async def table_names(side: Side) -> set[str]:
    own = {"reps", "assignments"}
    return set(metadata.tables) - own if side.station.spec.side == "partner" else set(metadata.tables)


async def read_table(side: Side, name: str) -> str:
    return repr(await side.rows(select(metadata.tables[name])))


async def read_whole_store(side: Side) -> str:
    """All rows of all tables, as text."""
    return "".join([await read_table(side, name) for name in sorted(await table_names(side))])
