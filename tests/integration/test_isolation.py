"""Two partners of one vendor, on one deal: no byte of one is anywhere at the other, whatever either sends, asks or guesses."""

import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from shared_schema.contract.codec import HEADER_EPOCH, HEADER_SEQUENCE
from shared_schema.contract.identifiers import deal_uid
from shared_schema.contract.refusal import REASONS
from shared_schema.contract.topics import record_topic
from shared_schema.crm import customers, private_notes
from shared_schema.crm.projected_tables import shared_deals, shared_notes
from shared_schema.crm.tables import metadata, property_history, shared_records
from shared_schema.sync import conflicts, metrics, notes, offers, refusals, views
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_deal, save_shared, take_over
from shared_schema.sync.merging import merge_deals
from shared_schema.sync.registrations import unshare
from shared_schema.sync.relay import deliver
from shared_schema.sync.tables import outbox, parked, peer_outcomes
from shared_schema.sync.transport import Broker, Record
from tests.integration.pair import DETAILS, Side, until
from tests.integration.trio import Trio, open_trio, read_topic, read_whole_store
from tests.postgres import EmbeddedPostgres
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node import assigning, reps

WORDS = {"Acme": "aardvark", "Besta": "bumblebee"}
PEOPLE = {"Acme": "Anna", "Besta": "Bruno"}
FIRST_ID = 5_001  # of everything that Besta has: nothing of Acme's has an id so high


@pytest.fixture(params=["memory on SQLite", "Kafka on PostgreSQL"])
async def trio(request: pytest.FixtureRequest, postgres: EmbeddedPostgres, tmp_path: Path) -> AsyncIterator[Trio]:
    """Vendor, Acme and Besta; the second partner on PostgreSQL either way, with ids of its own."""
    brokers: list[Broker]
    if request.param == "memory on SQLite":
        cluster = MemoryCluster()
        brokers, store = [MemoryBroker(cluster) for _ in range(3)], f"sqlite:///{tmp_path}/vendor.db"
    else:
        address, store = request.getfixturevalue("kafka_address"), postgres.fresh_database()
        brokers = [KafkaBroker(address) for _ in range(3)]
    urls = (store, f"sqlite:///{tmp_path}/acme.db", postgres.fresh_database())
    async with open_trio(urls, (brokers[0], brokers[1], brokers[2])) as opened:
        await start_ids_late(opened.partners["Besta"])
        await opened.become_partners()
        async with opened.vendor.station.working() as work:
            await reps.add_rep(work.tx, 1, {})
        opened.start()
        yield opened


async def start_ids_late(side: Side) -> None:
    """From here on a store's ids begin with FIRST_ID, in every table."""
    async with side.station.database.transaction() as tx:
        for table in metadata.sorted_tables:
            if "id" in table.c and table.c.id.autoincrement is not False and table.c.id.type.python_type is int and table.name != "reps":
                await tx.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {FIRST_ID - 1})"))


async def live(trio: Trio) -> tuple[int, int]:
    """Both partners work on one deal of the vendor's, with their own word in everything; the vendor's ids of the registrations."""
    ids = []
    for name, word in WORDS.items():
        details = {key: f"{value} {word}" for key, value in DETAILS.items()} | {"products": [{"sku": f"{word}-1"}]}
        ids.append(await trio.register(name, "Globex", details, name=f"{word} deal", next_step=f"{word} first"))
    acme, besta = ids
    deal_id = await trio.deal_of(acme)
    await trio.vendor.do(merge_deals, deal_id, await trio.deal_of(besta))
    for name, shared_deal_id in (("Acme", acme), ("Besta", besta)):
        await work_on(trio, name, shared_deal_id)
    await trio.vendor.do(save_deal, deal_id, {"close_date": "2027-01-01", "stage": "Proposal"})
    await trio.vendor.do(take_over, besta)
    await trio.vendor.do(save_deal, deal_id, {"next_step": "from the vendor to one"}, None, {besta: {}})
    await trio.settle()
    return acme, besta


async def work_on(trio: Trio, name: str, shared_deal_id: int) -> None:
    """Notes, comments, team, a conflict and a rep of one registration."""
    side, word = trio.partners[name], WORDS[name]
    own = (await side.rows(select(shared_deals.c.id)))[0][0]
    async with side.station.working(side.author) as work:
        deal_id = (await side.rows(select(shared_deals.c.deal_id)))[0][0]
        await private_notes.add(work.tx, deal_id, work.author.user_id, f"{word} private", work.now_ms)
        await customers.add_contact(work.tx, {"name": f"{word} contact", "email": f"{word}@globex.example"}, work.now_ms)
    note = await side.do(notes.add_note, own, f"{word} note")
    await side.do(notes.add_comment, note, f"{word} comment")
    await side.do(offers.put_member, own, side.author.user_id, f"{word} role")
    await trio.settle()
    await trio.vendor.do(offers.put_quote, shared_deal_id, {"number": f"Q-{word}"})
    shown = await trio.vendor.read(views.read_shared_deal, "vendor", shared_deal_id)
    await side.do(save_shared, own, {"name": f"{word} renamed"})
    await trio.vendor.do(save_shared, shared_deal_id, {"name": f"to {word}"}, {"name": shown["deal"]["fields"]["name"]["seen"]})
    await trio.vendor.do(assigning.reassign, shared_deal_id, 1)
    await trio.settle()


async def secrets_of(trio: Trio, name: str) -> set[str]:
    """All that names a partner or its work: words, people, the partnership, and the uids, dots and events that no other has."""
    own, other = trio.partnerships[name], next(each for each in trio.partnerships.values() if each != trio.partnerships[name])
    found = {}
    for partnership in (own, other):
        uids = select(shared_records.c.uid).where(shared_records.c.partnership == partnership)
        history = property_history.c
        written = select(history.event, history.incarnation, history.actor).where(history.partnership == partnership)
        rows = [*await trio.vendor.rows(uids), *await trio.vendor.rows(written)]
        found[partnership] = {str(each) for row in rows for each in row if each}
    return {WORDS[name], PEOPLE[name], PEOPLE[name].lower(), name, own} | (found[own] - found[other])


def check_nothing_of(secrets: Iterable[str], where: str, place: str) -> None:
    inside = [each for each in secrets if each in where]
    assert not inside, f"{inside[:5]} in {place}"


async def test_no_store_and_no_topic_of_one_has_a_byte_of_the_other(trio: Trio) -> None:
    await live(trio)
    for name, other in (("Acme", "Besta"), ("Besta", "Acme")):
        own, secrets = await secrets_of(trio, name), await secrets_of(trio, other)
        assert len(secrets) > 20
        check_nothing_of(secrets, await read_whole_store(trio.partners[name]), f"the store of {name}")
        for sender in ("partner", "vendor"):
            partnership = trio.partnerships[name]
            topic = record_topic(partnership, sender)
            read = b"\n".join(await read_topic(trio.vendor.broker, topic)).decode()
            assert partnership in read and sum(each in read for each in own) > 10, f"{topic} is not what it should be"
            check_nothing_of(secrets, read, topic)
    vendor = await read_whole_store(trio.vendor)
    assert all(word in vendor for word in (*WORDS.values(), *PEOPLE.values()))
    await trio.check_same()


async def test_a_rep_travels_by_name_without_the_explanation(trio: Trio) -> None:
    acme, besta = await live(trio)
    for name, shared_deal_id in (("Acme", acme), ("Besta", besta)):
        told = await trio.vendor.read(assigning.list_assignments, trio.partnerships[name], await trio.uid_of(shared_deal_id))
        assert told[-1]["explanation"]["considered"][0]["name"] == "Victor"
        read = b"\n".join(await read_topic(trio.vendor.broker, record_topic(trio.partnerships[name], "vendor"))).decode()
        assert "Victor" in read
        for word in ("considered", "passed_over", "open_deals", "credit", "round_robin", "deal_owner"):
            assert word not in read and word not in await read_whole_store(trio.partners[name])


class Forger:
    """Acme, writing to its own topic what its node would never write."""

    def __init__(self, trio: Trio) -> None:
        self.trio = trio
        self.own = trio.partnerships["Acme"]
        self.broker = trio.partners["Acme"].broker
        self.count = 0

    def make_event(self, *records: dict[str, Any], partnership: str | None = None) -> dict[str, Any]:
        self.count += 1
        event = {"id": f"01998f3e-0000-7000-8000-{self.count:012d}", "source": "/x/partner", "type": "deal.changed", "subject": "x"}
        event |= {"specversion": "1.0", "dataschema": "urn:dealbridge:event:1.0", "time": "2026-11-25T00:00:00.000Z"}
        event |= {"partnership": partnership or self.own, "registration": None, "stamp": [1, 0], "causation": None, "actor": None}
        return event | {"keyid": None, "data": {"records": list(records), "outcomes": []}}

    def make_record(self, uid: str, kind: str, parent: str | None, registration: str | None, **fields: Any) -> dict[str, Any]:
        registers = {}
        for name, value in fields.items():
            self.count += 1
            sibling = {"dot": ["p-00000000000f0e5e", self.count], "stamp": [1, 0], "actor": None, "value": value}
            registers[name] = {"context": {"p-00000000000f0e5e": self.count}, "siblings": [sibling]}
        side = "vendor" if kind == "product" else "partner"  # either side makes those: they count as the vendor's
        return {"uid": uid, "kind": kind, "parent": parent, "registration": registration, "side": side, "fields": registers}

    async def send(self, *events: dict[str, Any]) -> None:
        producer = await self.broker.open_producer()
        try:
            for number, event in enumerate(events, self.count * 1_000):
                headers = ((HEADER_EPOCH, b"feedfacefeedface"), (HEADER_SEQUENCE, str(number - self.count * 1_000 + 1).encode()))
                await deliver(await producer.send(record_topic(self.own, "partner"), [Record(b"k", json.dumps(event).encode(), headers)]))
        finally:
            await producer.close()

    async def taken(self) -> None:
        """Until the vendor has read all that was sent."""
        topic = record_topic(self.own, "partner")

        async def read() -> bool:
            end = (await self.broker.describe_topics([topic]))[topic].end_offset
            rows = await self.trio.vendor.rows(text(f"SELECT next_offset FROM inbound_positions WHERE topic = '{topic}'"))
            return bool(rows[0][0] >= end)

        await until(read)


async def read_of(trio: Trio, name: str) -> str:
    """All that the vendor holds of a partnership, and sends to it."""
    found = []
    for table in (shared_records, property_history, outbox, *(t for t in metadata.sorted_tables if "registration" in t.c)):
        found.append(repr(await trio.vendor.rows(select(table).where(table.c.partnership == trio.partnerships[name]))))
    return "".join(found)


async def test_events_that_name_the_other_partnership_or_its_records_are_refused_and_alarmed(trio: Trio) -> None:
    acme, besta = await live(trio)
    theirs, ours = await trio.uid_of(besta), await trio.uid_of(acme)
    note = (await trio.vendor.rows(select(shared_notes.c.uid).where(shared_notes.c.registration == theirs)))[0][0]
    before = await read_of(trio, "Besta")
    forger = Forger(trio)
    new = [f"01998f3e-1111-7000-8000-{number:012d}" for number in range(6)]
    hostile = [
        forger.make_record(new[0], "note", theirs, theirs, body="into their thread"),
        forger.make_record(new[1], "note", ours, theirs, body="into their registration"),
        forger.make_record(new[2], "comment", note, theirs, body="on their note"),
        forger.make_record(new[3], "comment", note, ours, body="on their note, under our registration"),
        forger.make_record(new[4], "gizmo", theirs, theirs, body="of a kind that nobody knows"),
        forger.make_record(new[5], "product", theirs, theirs, sku="X", name="X", quantity="1"),
    ]
    stolen = forger.make_event(
        forger.make_record(deal_uid(theirs), "deal", theirs, theirs, name="mine now"), partnership=trio.partnerships["Besta"]
    )
    await forger.send(stolen, *(forger.make_event(each) for each in hostile))
    await forger.taken()
    await trio.settle()
    listed = await trio.vendor.read(refusals.list_refused, trio.partnerships["Acme"])
    expected = {(uid, "wrong_parent") for uid in new} | {(stolen["id"], "wrong_partnership")}
    assert {(each["uid"], each["reason"]) for each in listed} == expected
    (letter,) = await trio.vendor.rows(select(parked.c.reason, parked.c.partnership))
    assert tuple(letter) == ("wrong_partnership", trio.partnerships["Acme"])
    assert await trio.vendor.rows(select(shared_records.c.uid).where(shared_records.c.uid.in_(new))) == []
    assert await read_of(trio, "Besta") == before
    told = await trio.partners["Acme"].rows(select(peer_outcomes.c.outcome, peer_outcomes.c.reason))
    assert {("refused", "wrong_parent"), ("refused", "wrong_partnership")} <= {tuple(row) for row in told}
    secrets = await secrets_of(trio, "Besta") - {theirs, note}
    check_nothing_of(secrets, await read_whole_store(trio.partners["Acme"]), "what the forger was told")
    alarms = await alarms_of(trio)
    assert alarms["wrong_parent"] >= len(new) and alarms["wrong_partnership"] >= 1


async def alarms_of(trio: Trio) -> dict[str, float]:
    """What the vendor's metrics say was refused of Acme's, by reason."""
    return {reason: metrics.refused.labels(trio.partnerships["Acme"], reason)._value.get() for reason in REASONS}


async def test_records_under_the_others_uids_are_the_forgers_own_and_change_nothing_there(trio: Trio) -> None:
    _, besta = await live(trio)
    theirs = await trio.uid_of(besta)
    note = (await trio.vendor.rows(select(shared_notes.c.uid).where(shared_notes.c.registration == theirs)))[0][0]
    shown = await trio.vendor.read(views.read_shared_deal, "vendor", besta)
    audit = await trio.vendor.read(views.read_audit, besta)
    forger = Forger(trio)
    said = {"initiated_by": "partner", "company": {"name": "Forged"}, "submission": {"at": 1, "round": 1}}
    await forger.send(
        forger.make_event(
            forger.make_record(theirs, "registration", None, theirs, **said),
            forger.make_record(deal_uid(theirs), "deal", theirs, theirs, name="forged name", next_step="forged step"),
            forger.make_record(note, "note", theirs, theirs, body="forged note"),
        )
    )
    await forger.taken()
    await trio.settle()
    forged = (shared_deals.c.partnership == trio.partnerships["Acme"], shared_deals.c.uid == theirs)
    (row,) = await trio.vendor.rows(select(shared_deals.c.id, shared_deals.c.status).where(*forged))
    assert row.status == "active"
    assert await trio.vendor.read(views.read_shared_deal, "vendor", besta) == shown | {"peer_heard_ms": (await heard(trio, besta))}
    assert await trio.vendor.read(views.read_audit, besta) == audit
    assert "forged" not in str(await trio.vendor.read(conflicts.list_open))
    for name in trio.partnerships:
        told = await trio.vendor.read(assigning.list_assignments, trio.partnerships[name], theirs)
        assert {each["partnership"] for each in told} == {trio.partnerships[name]}
    await trio.vendor.stop()
    await trio.vendor.do(save_shared, besta, {"next_step": "still on its way"})
    await trio.vendor.do(unshare, row.id)
    trio.vendor.start()
    await trio.settle()
    assert (await read_at(trio, "Besta"))["deal"]["fields"]["next_step"]["value"] == "still on its way"
    assert "forged" not in await read_whole_store(trio.partners["Besta"])


async def heard(trio: Trio, shared_deal_id: int) -> Any:
    """When the peer was last heard goes on."""
    return (await trio.vendor.read(views.read_shared_deal, "vendor", shared_deal_id))["peer_heard_ms"]


async def read_at(trio: Trio, name: str) -> Any:
    own = (await trio.partners[name].rows(select(shared_deals.c.id)))[0][0]
    return await trio.partners[name].read(views.read_shared_deal, "partner", own)
