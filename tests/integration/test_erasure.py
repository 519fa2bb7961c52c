"""After an erasure no byte of the content is left in either store, its queues or its history, and nothing that arrives brings it back."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update

from shared_schema.contract.codec import decode_event
from shared_schema.crm import private_notes
from shared_schema.crm.problems import NotAllowed, WrongState
from shared_schema.crm.projected_tables import shared_notes
from shared_schema.crm.tables import contacts, shared_records
from shared_schema.sync import eraser, erasing, erasure_list, held, verification, verifier, views
from shared_schema.sync.braking import Limits
from shared_schema.sync.capture import NotWritable
from shared_schema.sync.deals import save_shared
from shared_schema.sync.eraser import finish_erasures
from shared_schema.sync.notes import add_comment, add_note, add_text, edit
from shared_schema.sync.owed_states import owe_all
from shared_schema.sync.registrations import list_registrations, open_shared_deal
from shared_schema.sync.station import Author
from shared_schema.sync.tables import erasures, journal, outbox, parked
from tests.integration.erasure_stage import MARK, Stage, note_of, open_stage, plant, rows_with
from tests.integration.pair import Pair, Side, open_pair, until
from tests.integration.test_brake import settle_but_held
from tests.postgres import EmbeddedPostgres
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

Row = dict[str, Any]
ANN = Author(1, None, "Ann Admin", "admin")


@pytest.fixture(params=["memory-sqlite", "kafka-postgresql"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    for module, name, value in (
        (verification, "PAUSE_MS", 50),
        (verification, "PAUSES_MAX", 1),
        (verifier, "POLL_S", 0.05),
        (eraser, "POLL_S", 0.05),
    ):
        monkeypatch.setattr(module, name, value)
    medium, store = request.param.split("-")
    address = "" if medium == "memory" else str(request.getfixturevalue("kafka_address"))
    database_url = f"sqlite:///{tmp_path}/vendor.db" if store == "sqlite" else request.getfixturevalue("postgres_url")
    async with open_stage(tmp_path, address, database_url) as opened:
        yield opened


async def until_gone(side: Side, count: int) -> list[Row]:
    """Until every erasure of this side is stated to be gone by a date."""
    found: list[Row] = []

    async def all_gone() -> bool:
        found[:] = await side.read(erasing.list_erasures, side.station.keeping)
        return len(found) == count and all(each["gone_by"] for each in found)

    await until(all_gone)
    return found


async def check_peers_agree(pair: Pair) -> None:
    documents = select(shared_records.c.uid, shared_records.c.document, shared_records.c.hash).order_by(shared_records.c.uid)
    assert await pair.partner.rows(documents) == await pair.vendor.rows(documents)


async def test_who_saw_a_deal_before_its_erasure_adds_nothing_after_it(stage: Stage) -> None:
    vendor = stage.pair.vendor
    async with vendor.station.working(ANN) as work:
        row = await open_shared_deal(work.tx, 1)
    async with vendor.station.working(ANN) as work:
        await erasing.erase_deal(work, 1)
    with pytest.raises(WrongState, match="erased"):
        async with vendor.station.working(ANN) as work:
            await add_text(work, "note", row, row["uid"], "too late")
    assert not await vendor.rows(select(shared_notes.c.id).where(shared_notes.c.body == "too late"))


async def test_of_an_erased_deal_nothing_is_left_on_either_side(stage: Stage) -> None:
    pair = stage.pair
    assert await stage.traces()
    ends = await stage.find_ends()
    assert (await stage.sent_since(dict.fromkeys(ends, 0)))[0], "the topics hold it"
    async with pair.partner.station.working(ANN) as work:
        await erasing.erase_contact(work, 1)
    async with pair.partner.station.working(ANN) as work:
        await erasing.erase_deal(work, 1)
    told = await until_gone(pair.partner, 3)
    await pair.settle()
    assert {(each["kind"], each["fields"], each["state"]) for each in told} == {
        ("contact", "", "gone"),
        ("registration", "contact", "gone"),
        ("registration", "", "gone"),
    }
    await check_peers_agree(pair)
    for side in (pair.partner, pair.vendor):  # all that either could still say of it
        async with side.station.working() as work:
            await owe_all(work.tx, pair.partnership)
            work.woken.add("owed")
    await pair.settle()
    sent = await stage.sent_since(ends)
    assert sent[0] == [] and sent[1] > 10, "what was sent since then has it"
    await stage.forget()
    assert await stage.traces() == []
    for side in (pair.partner, pair.vendor):
        (row,) = await side.read(views.list_shared_deals, {})
        assert (row["status"], row["state"]) == ("erased", "erased")
        assert (await side.read(views.read_shared_deal, side.station.spec.side, 1))["notes"][0]["state"] == "erased"
    assert [row.body for row in await pair.vendor.rows(select(private_notes.private_notes))] == ["private"], "the vendor's own"
    assert ("erased", "Ann Admin") in [(row.what, row.actor) for row in await pair.partner.rows(select(journal))]


async def test_a_contact_and_its_deal_that_are_erased_at_once_go_both(stage: Stage) -> None:
    """Both erasures come to the peer together: that of the deal does not hide that of the contact."""
    pair = stage.pair
    await pair.vendor.stop()
    for erase in (erasing.erase_contact, erasing.erase_deal):
        async with pair.partner.station.working(ANN) as work:
            await erase(work, 1)
    pair.vendor.start()
    await until_gone(pair.partner, 3)
    await pair.settle()
    assert await rows_with(pair.vendor, f"Hank {MARK}") == []


async def test_of_an_erased_note_and_its_comments_nothing_is_left_while_the_deal_goes_on(stage: Stage) -> None:
    pair = stage.pair
    await pair.partner.do(edit, "note", 1, "erased-later, first version")
    await pair.partner.do(edit, "note", 1, "erased-later, second version")
    await pair.settle()
    with pytest.raises(NotAllowed, match="author"):
        await pair.vendor.do(erasing.erase_text, "note", await note_of(pair.vendor, "partner"))
    await pair.vendor.do(add_comment, await note_of(pair.vendor, "partner"), "erased-later, a comment")
    await pair.settle()
    await pair.partner.do(erasing.erase_text, "note", 1)
    await until_gone(pair.partner, 1)
    await pair.settle()
    assert await stage.traces("erased-later") == []
    with pytest.raises(WrongState, match="erased"):
        await pair.partner.do(erasing.erase_text, "note", 1)
    with pytest.raises((NotWritable, WrongState)):
        await pair.partner.do(edit, "note", 1, "back again")
    await pair.partner.do(save_shared, 1, {"next_step": "goes on"})
    await pair.settle()
    await pair.check_same()


async def test_a_contacts_personal_data_goes_on_both_sides_and_the_deal_stays(stage: Stage) -> None:
    pair = stage.pair
    email = f"{MARK}@globex.example"
    async with pair.vendor.station.working(ANN) as work:
        found = (await work.tx.execute(select(contacts.c.id).where(contacts.c.email == email))).scalar_one()
        await erasing.erase_contact(work, found)
    await until_gone(pair.vendor, 2)
    await pair.settle()
    for mark in (email, f"Hank {MARK}", "+4930901820"):
        assert await stage.traces(mark) == []
    (row,) = await pair.partner.read(views.list_shared_deals, {})
    assert row["status"] == "active"
    await pair.partner.do(save_shared, 1, {"next_step": "goes on"})
    await pair.settle()
    await pair.check_same()
    for side in (pair.partner, pair.vendor):
        assert [contact.name for contact in await side.rows(select(contacts))] == ["(erased)"]


async def test_what_was_on_its_way_keeps_its_number_and_loses_its_content(stage: Stage) -> None:
    """Unsent and unacknowledged rows are rewritten; what the other side sent meanwhile is erased when it arrives, children included."""
    pair = stage.pair
    await pair.vendor.stop()
    await pair.partner.do(add_note, 1, "underway, sent")

    async def published() -> bool:
        return all(row.published_ms for row in await pair.partner.rows(select(outbox)))

    await until(published)
    await pair.partner.stop()
    await pair.partner.do(add_note, 1, "underway, unsent")
    async with pair.partner.station.working() as work:
        await owe_all(work.tx, pair.partnership)
    async with pair.vendor.station.working(pair.vendor.author) as work:
        await add_note(work, 1, "underway, from the vendor")
    before = [(row.id, row.epoch, row.sequence) for row in await pair.partner.rows(select(outbox).order_by(outbox.c.id))]
    async with pair.partner.station.working(ANN) as work:
        await erasing.erase_deal(work, 1)
    after = [(row.id, row.epoch, row.sequence) for row in await pair.partner.rows(select(outbox).order_by(outbox.c.id))]
    assert after[: len(before)] == before
    assert await rows_with(pair.partner, "underway") == []
    ends = {topic: end for topic, end in (await stage.find_ends()).items() if topic.endswith("from-partner")}
    pair.partner.start()
    pair.vendor.start()
    await until_gone(pair.partner, 1)
    await pair.settle()
    await check_peers_agree(pair)
    assert [each for side in (pair.partner, pair.vendor) for each in await rows_with(side, "underway")] == []
    sent = await stage.sent_since(ends, "underway")
    assert sent[0] == [] and sent[1] >= len(before), "a queued event took it along"


async def test_parked_events_lose_it_too_whether_they_can_be_read_or_not(stage: Stage) -> None:
    pair = stage.pair
    await pair.vendor.stop()
    await pair.partner.do(add_note, 1, f"parked {MARK}")
    (row,) = await pair.partner.rows(select(outbox.c.payload, outbox.c.registration))
    unreadable = f'{{"registration":"{row.registration}","of tomorrow":"{MARK}"}}'
    base = {"partnership": pair.partnership, "topic": "t", "reason": "poison", "detail": MARK, "headers": "[]", "at_ms": 1}
    rows = [{**base, "record_offset": place, "payload": each.encode()} for place, each in enumerate((row.payload, unreadable))]
    async with pair.vendor.station.database.transaction() as tx:
        await tx.execute(insert(parked), rows)
    pair.vendor.start()
    async with pair.partner.station.working(ANN) as work:
        await erasing.erase_deal(work, 1)
    await until_gone(pair.partner, 1)
    readable, other = await pair.vendor.rows(select(parked).order_by(parked.c.record_offset))
    assert decode_event(readable.payload).data.records[-1].erased
    assert (other.payload, MARK in readable.detail + other.detail) == (None, False)


async def test_an_older_backup_put_back_erases_again_before_it_serves(stage: Stage, tmp_path: Path) -> None:
    pair = stage.pair
    partner = pair.partner
    store, backup = tmp_path / "partner.db", tmp_path / "copy.sqlite"
    with closing(sqlite3.connect(store)) as here, closing(sqlite3.connect(backup)) as there:
        here.backup(there)
    async with partner.station.working(ANN) as work:
        await erasing.erase_contact(work, 1)
    async with partner.station.working(ANN) as work:
        await erasing.erase_deal(work, 1)
    await until_gone(partner, 3)
    await pair.settle()
    await partner.stop()
    await partner.station.database.close()
    for path in tmp_path.glob("partner.db*"):
        path.unlink()
    shutil.move(backup, store)
    assert await rows_with(partner, MARK), "the backup holds it"
    assert await erasure_list.apply(partner.station) == 3
    await finish_erasures(partner.station)
    await partner.station.database.close()
    assert await stage.traces() == []
    assert await erasure_list.apply(partner.station) == 0
    assert await partner.read(list_registrations, 1)


async def test_a_cut_last_line_of_the_list_stops_nothing_and_a_bad_one_stops_the_node(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "cut.erasures"
    row = {"partnership": "p", "uid": "u", "kind": "note", "parent": None, "registration": None, "side": "partner"}
    erasure_list.append(path, [row | {"fields": "", "origin": "here", "at_ms": 1}])
    with path.open("a") as file:
        file.write('{"partnership": "p"')
    assert [each["uid"] for each in erasure_list.read(path)] == ["u"]
    assert path.read_text().count("\n") == 1
    with path.open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(erasure_list.BadErasureList, match="line 2"):
        erasure_list.read(path)


async def test_an_erasure_that_the_brake_holds_here_is_gone_here_and_stated_as_held(stage: Stage) -> None:
    pair = stage.pair
    pair.partner.station.keeping = pair.partner.station.keeping._replace(brake=Limits(1, 0))
    for number in range(6):
        await pair.partner.do(add_note, 1, f"erased-later {number}")
    await pair.settle()
    mine = [row.id for row in await pair.partner.rows(select(*views.LOCAL_IDS["note"].c)) if row.body.startswith("erased-later")]
    for note in mine:
        await pair.partner.do(erasing.erase_text, "note", note)
    await settle_but_held(pair)
    stated = await pair.partner.read(erasing.list_erasures, pair.partner.station.keeping)
    assert [each["state"] for each in stated].count("held by the brake") == 1
    assert await rows_with(pair.partner, "erased-later") == []
    await held.decide(pair.partner.station, ANN, pair.partnership, "out", "release")
    await until_gone(pair.partner, 6)
    assert await rows_with(pair.vendor, "erased-later") == []


async def test_nothing_that_arrives_late_or_by_repair_brings_it_back(stage: Stage) -> None:
    """The vendor's store loses the fact of an erasure; the partner's says it again, and never the other way round."""
    pair = stage.pair
    note = select(shared_records).where(shared_records.c.kind == "note", shared_records.c.side == "partner")
    (before,) = await pair.vendor.rows(note)
    await pair.partner.do(erasing.erase_text, "note", 1)
    await until_gone(pair.partner, 1)
    await pair.settle()
    async with pair.vendor.station.database.transaction() as tx:
        old = {"document": before.document, "hash": before.hash, "state": before.state}
        await tx.execute(update(shared_records).where(shared_records.c.uid == before.uid).values(old))
    await pair.vendor.do(verification.request, pair.partnership, repair=True)

    async def erased_again() -> bool:
        return all(row.state == "erased" for row in await pair.vendor.rows(note))

    await until(erased_again)
    await pair.settle()
    assert [row.state for row in await pair.partner.rows(note)] == ["erased"]
    await check_peers_agree(pair)


async def files_with(server: EmbeddedPostgres, pair: Pair, mark: str) -> list[str]:
    """The files of the vendor's database that hold a text."""
    (own,) = await pair.vendor.rows(text("SELECT oid FROM pg_database WHERE datname = current_database()"))
    data, found = server.directory / "data" / "base" / str(own.oid), []
    for path in data.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):  # it may go while it is looked at
            found += [str(path.relative_to(data))] if mark.encode() in path.read_bytes() else []
    return found


def log_with(server: EmbeddedPostgres, mark: str) -> list[str]:
    """The files of the server's write-ahead log that hold a text."""
    return [path.name for path in list_log(server) if mark.encode() in path.read_bytes()]


def list_log(server: EmbeddedPostgres) -> list[Path]:
    return [path for path in sorted((server.directory / "data" / "pg_wal").iterdir()) if path.is_file()]


async def turn_the_log(server: EmbeddedPostgres, side: Side) -> None:
    """What the README tells an operator to do: a segment that is recycled keeps its bytes until its turn comes to be written again."""
    for _ in range(len(list_log(server)) + 1):
        for statement in ("SELECT pg_switch_wal()", "CHECKPOINT"):
            async with side.station.database.transaction() as tx:
                await tx.execute(text(statement))


async def test_the_files_of_postgresql_hold_it_no_longer_either(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Its write-ahead log keeps what it was told until it has been turned."""
    cluster = MemoryCluster()
    url = postgres.fresh_database()
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", url), (MemoryBroker(cluster), MemoryBroker(cluster))) as pair:
        await pair.become_partners()
        pair.partner.start()
        pair.vendor.start()
        await plant(pair)
        await pair.vendor.stop()
        async with pair.vendor.station.database.transaction() as tx:
            await tx.execute(text("CHECKPOINT"))
        assert await files_with(postgres, pair, f"the vendor's {MARK}")
        async with pair.vendor.station.working(ANN) as work:
            await erasing.erase_deal(work, 1)
        pair.vendor.start()

        async def cleaned() -> bool:
            return all(row.cleaned_ms for row in await pair.vendor.rows(select(erasures)))

        await until(cleaned)
        async with pair.vendor.station.database.transaction() as tx:
            await tx.execute(text("CHECKPOINT"))
        assert await files_with(postgres, pair, f"the vendor's {MARK}") == []
        assert log_with(postgres, f"the vendor's {MARK}")
        await turn_the_log(postgres, pair.vendor)
        assert log_with(postgres, f"the vendor's {MARK}") == []
