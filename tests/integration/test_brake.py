"""Too many deletions wait, unsent or parked, until a person's word; everything else goes on, and what is shown says so."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from shared_schema.contract.codec import HEADER_EPOCH, HEADER_SEQUENCE
from shared_schema.contract.topics import record_topic
from shared_schema.crm.problems import WrongState
from shared_schema.sync import apply, dead_letters, held, parking, verification, verifier, views
from shared_schema.sync.braking import DROPPED, LEAST, Limits
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_shared
from shared_schema.sync.emptier import sweep
from shared_schema.sync.erasing import erase_text
from shared_schema.sync.notes import add_note, bring_back, edit, remove
from shared_schema.sync.registrations import delete_for_both, restore, unshare
from shared_schema.sync.station import Author, Keeping
from shared_schema.sync.status import read_status
from shared_schema.sync.tables import inbound_epochs, journal, outbound_epochs, outbox, parked, peer_outcomes
from shared_schema.sync.transport import Broker, Record
from tests.integration.pair import Pair, Side, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

Row = dict[str, Any]
ANN = Author(1, None, "Ann Admin", "admin")
OFF = Keeping(brake=Limits(10_000, 100))
TIGHT = Keeping(brake=Limits(1, 100))


@pytest.fixture(params=["memory-sqlite", "kafka-postgresql"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """Two nodes that share one active deal with seven notes of the partner's, in step."""
    monkeypatch.setattr(verification, "PAUSE_MS", 50)
    monkeypatch.setattr(verification, "PAUSES_MAX", 1)
    monkeypatch.setattr(verifier, "POLL_S", 0.05)
    brokers: tuple[Broker, Broker]
    medium, store = request.param.split("-")
    if medium == "memory":
        cluster = MemoryCluster()
        brokers = MemoryBroker(cluster), MemoryBroker(cluster)
    else:
        address = request.getfixturevalue("kafka_address")
        brokers = KafkaBroker(address), KafkaBroker(address)
    url = f"sqlite:///{tmp_path}/vendor.db" if store == "sqlite" else request.getfixturevalue("postgres_url")
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", url), brokers) as opened:
        await opened.begin_sharing()
        for number in range(7):
            await opened.partner.do(add_note, 1, f"note {number}")
        await opened.settle()
        yield opened


async def set_brakes(pair: Pair, partner: Keeping, vendor: Keeping) -> None:
    for side, keeping in ((pair.partner, partner), (pair.vendor, vendor)):
        await side.stop()
        side.station.keeping = keeping
        side.start()


async def remove_notes(side: Side, count: int) -> None:
    for number in range(1, count + 1):
        await side.do(remove, "note", number)


async def have_held(pair: Pair, count: int) -> None:
    """The partner deletes so many notes more than the vendor lets pass without a word."""
    await set_brakes(pair, OFF, TIGHT)
    await remove_notes(pair.partner, LEAST + count)
    await until_held(pair.vendor, count)
    await pair.settle()


async def status(side: Side) -> Row:
    (row,) = await side.read(read_status, side.station.clock.now_ms())
    return row


async def until_held(side: Side, count: int) -> None:
    async def held_so_many() -> bool:
        return (await status(side))["held_incoming"] == count

    await until(held_so_many)


async def until_verified(side: Side, partnership: str, repaired: int | None = None) -> None:
    async def done() -> bool:
        return (await side.read(verification.read_verification, partnership))["phase"] == "done"

    await until(done)
    found = await side.read(verification.read_verification, partnership)
    assert repaired in (None, found["repaired"])


async def notes_of(side: Side, state: str) -> int:
    shown = await side.read(views.read_shared_deal, side.station.spec.side, 1)
    return sum(each["state"] == state for each in shown["notes"])


async def settle_but_held(pair: Pair) -> None:
    """Until nothing is on its way but what the brake holds."""

    async def quiet() -> bool:
        rows = [await status(side) for side in (pair.partner, pair.vendor)]
        return all(not (row["unacknowledged"] - row["held_outgoing"] or row["gaps"] or row["reactions"] or row["owed"]) for row in rows)

    await until(quiet)


async def test_outgoing_deletions_past_the_limit_wait_unsent_while_edits_go_on_and_a_release_lets_only_them_go(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await set_brakes(pair, TIGHT, OFF)
    await remove_notes(partner, LEAST + 1)
    await partner.do(save_shared, 1, {"next_step": "goes on"})
    await settle_but_held(pair)
    assert ((await status(partner))["held_outgoing"], await notes_of(vendor, "deleted")) == (1, LEAST)
    shown = await partner.read(views.read_shared_deal, "partner", 1)
    assert [each["sync"] for each in shown["notes"]].count("held") == 1 and shown["sync"] == "held"
    assert (await vendor.read(views.read_shared_deal, "vendor", 1))["deal"]["fields"]["next_step"]["value"] == "goes on"
    assert [row["act"] for row in await partner.read(held.list_held)] == ["deleted"]
    assert await held.decide(partner.station, ANN, pair.partnership, "out", "release") == {"released": 1}
    await pair.settle()
    assert await notes_of(vendor, "deleted") == LEAST + 1
    await pair.check_same()
    await partner.do(remove, "note", LEAST + 2)
    assert (await status(partner))["held_outgoing"] == 1, "what comes later is judged anew"
    assert ("brake release", "Ann Admin") in [(row.what, row.actor) for row in await partner.rows(select(journal))]


async def test_dropping_outgoing_deletions_takes_them_back_on_both_sides(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await set_brakes(pair, TIGHT, OFF)
    await remove_notes(partner, LEAST + 2)
    assert await held.decide(partner.station, ANN, pair.partnership, "out", "drop") == {"taken back": 2, "still held": 0}
    await pair.settle()
    for side in (partner, vendor):
        assert (await notes_of(side, "deleted"), await notes_of(side, "alive")) == (LEAST, 2)
    await pair.check_same()
    with pytest.raises(WrongState, match="held"):
        await held.decide(partner.station, ANN, pair.partnership, "out", "drop")


async def test_what_follows_a_held_deletion_waits_behind_it_and_a_repair_gives_nothing_away(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await set_brakes(pair, TIGHT, OFF)
    await remove_notes(partner, LEAST + 1)
    async with partner.station.working(partner.author) as work:
        await bring_note_back(work, LEAST + 1)
    await partner.do(edit, "note", LEAST + 1, "edited after all")
    await settle_but_held(pair)
    assert (await status(partner))["held_outgoing"] == 2
    await vendor.do(verification.request, pair.partnership, repair=True)
    await settle_but_held(pair)
    assert await notes_of(vendor, "deleted") == LEAST
    await held.decide(partner.station, ANN, pair.partnership, "out", "release")
    await pair.settle()
    assert await notes_of(vendor, "deleted") == LEAST
    await pair.check_same()


async def bring_note_back(work: Any, note_id: int) -> None:
    await bring_back(work, "note", note_id)


async def test_incoming_deletions_past_the_limit_wait_parked_and_are_applied_at_a_release(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await set_brakes(pair, OFF, TIGHT)
    await remove_notes(partner, LEAST + 2)
    await partner.do(save_shared, 1, {"next_step": "goes on"})
    await until_held(vendor, 2)
    await pair.settle()
    assert (await notes_of(vendor, "deleted"), await notes_of(vendor, "alive")) == (LEAST, 2)
    assert (await vendor.read(views.read_shared_deal, "vendor", 1))["deal"]["fields"]["next_step"]["value"] == "goes on"
    shown = await partner.read(views.read_shared_deal, "partner", 1)
    assert [each["sync"] for each in shown["notes"]].count("parked") == 2, "parked is not applied, and its sender sees that"
    assert [row["direction"] for row in await vendor.read(held.list_held)] == ["in", "in"]
    told = [row.detail for row in await vendor.rows(select(journal)) if row.what == "held by the brake"]
    assert told and all(each.startswith("incoming: ") for each in told)
    assert await held.decide(vendor.station, ANN, pair.partnership, "in", "release") == {"applied": 2}
    await pair.settle()
    assert await notes_of(vendor, "deleted") == LEAST + 2
    await pair.check_same()
    assert {each["sync"] for each in (await partner.read(views.read_shared_deal, "partner", 1))["notes"]} == {"applied"}
    await until_verified(vendor, pair.partnership, repaired=0)


async def test_a_replay_passes_over_what_the_brake_holds_and_a_discard_is_no_word_about_it(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await have_held(pair, 2)
    letters = [row.id for row in await vendor.rows(select(parked.c.id).order_by(parked.c.id))]
    told = await partner.rows(select(peer_outcomes).order_by(peer_outcomes.c.event))
    for result in await dead_letters.replay(vendor.station, ANN, await vendor.read(dead_letters.find_all)):
        assert (result.result, result.reason) == ("held", "the brake holds it; use `brake release` or `brake drop`")
    with pytest.raises(WrongState, match="the brake holds it"):
        await vendor.do(dead_letters.discard, letters[0], "no sense in it")
    await pair.settle()
    assert [row.id for row in await vendor.rows(select(parked.c.id).order_by(parked.c.id))] == letters
    assert len(await vendor.read(held.list_held)) == 2 and await notes_of(vendor, "alive") == 2
    assert await partner.rows(select(peer_outcomes).order_by(peer_outcomes.c.event)) == told
    assert await held.decide(vendor.station, ANN, pair.partnership, "in", "release") == {"applied": 2}


@pytest.mark.parametrize("word", ["release", "drop"])
async def test_poisonous_deletions_that_are_replayed_past_the_limit_are_held_and_a_person_decides(
    pair: Pair, word: held.Word, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = pair.vendor
    await set_brakes(pair, OFF, TIGHT)
    real = apply.apply_event

    def trip(desk: Any, numbered: Any) -> None:
        if numbered.event.type == "note.deleted":
            raise RuntimeError("a defect of ours")
        real(desk, numbered)

    async def all_parked() -> bool:
        return (await status(vendor))["parked"] == LEAST + 1

    with monkeypatch.context() as broken:
        broken.setattr(apply, "apply_event", trip)
        await remove_notes(pair.partner, LEAST + 1)
        await until(all_parked)
    results = await dead_letters.replay(vendor.station, ANN, await vendor.read(dead_letters.find_all))
    assert [(each.result, each.reason) for each in results] == [("applied", None)] * LEAST + [("parked", "brake")]
    (shown,) = await vendor.read(held.list_held)
    assert ((await status(vendor))["held_incoming"], shown["act"]) == (1, "deleted")
    assert await held.decide(vendor.station, ANN, pair.partnership, "in", word) == {"applied" if word == "release" else "refused": 1}
    assert not await vendor.rows(select(parked.c.id)) and not await vendor.read(held.list_held)
    await pair.settle()
    assert await notes_of(vendor, "deleted") == LEAST + (word == "release")


async def test_a_repair_brings_no_held_deletion_in_and_parks_it_no_second_time(pair: Pair) -> None:
    vendor = pair.vendor
    await have_held(pair, 1)
    await vendor.do(verification.request, pair.partnership, repair=True)
    await until_verified(vendor, pair.partnership)
    await pair.settle()
    assert (len(await vendor.rows(select(parked.c.id))), await notes_of(vendor, "deleted")) == (1, LEAST)


async def send_again(pair: Pair, letters: list[Any], epoch: str) -> None:
    """As a sender does that was killed before it heard that they had arrived: under a new epoch."""
    known = {"partnership": pair.partnership, "epoch": epoch, "acknowledged": 0, "began_ms": 0}
    async with pair.partner.station.working() as work:
        await work.tx.execute(insert(outbound_epochs).values(known))
    producer = await pair.partner.broker.open_producer()
    for number, received in enumerate(map(parking.unpark, letters), 1):
        headers = ((HEADER_EPOCH, epoch.encode()), (HEADER_SEQUENCE, str(number).encode()))
        await (await producer.send(record_topic(pair.partnership, "partner"), [Record(None, received.value, headers)]))
    await producer.close()

    async def arrived() -> bool:
        where = (inbound_epochs.c.epoch == epoch, inbound_epochs.c.next_sequence > len(letters))
        return bool(await pair.vendor.rows(select(inbound_epochs.c.epoch).where(*where)))

    await until(arrived)


async def test_a_held_deletion_that_arrives_once_more_is_held_once_and_once_dropped_stays_dropped(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await have_held(pair, 2)
    letters = [row._asdict() for row in await vendor.rows(select(parked).order_by(parked.c.id))]
    await send_again(pair, letters, "a" * 16)
    assert len(await vendor.read(held.list_held)) == len(await vendor.rows(select(parked.c.id))) == 2
    assert await held.decide(vendor.station, ANN, pair.partnership, "in", "drop") == {"refused": 2}
    await send_again(pair, letters, "b" * 16)
    await pair.settle()
    assert not await vendor.rows(select(parked.c.id))
    assert await notes_of(vendor, "alive") == 2
    told = await partner.rows(select(peer_outcomes.c.outcome, peer_outcomes.c.reason).where(peer_outcomes.c.outcome != "applied"))
    assert [tuple(each) for each in told] == [("refused", DROPPED)] * 2


async def test_dropping_incoming_deletions_of_deals_brings_them_back_at_the_sender(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await set_brakes(pair, OFF, OFF)
    for number in range(LEAST + 1):
        await pair.share_deal(f"Company{number}")
    await pair.settle()
    await set_brakes(pair, OFF, TIGHT)
    for shared_deal in range(2, LEAST + 3):
        await partner.do(delete_for_both, shared_deal, None)
    await until_held(vendor, 1)
    await pair.settle()
    assert await held.decide(vendor.station, ANN, pair.partnership, "in", "drop") == {"restored": 1}
    await pair.settle()
    for side in (partner, vendor):
        states = [row["state"] for row in await side.read(views.list_shared_deals, {})]
        assert (states.count("alive"), states.count("deleted")) == (2, LEAST)
    await pair.check_same()


async def test_dropping_what_only_its_author_may_restore_tells_the_author(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await have_held(pair, 1)
    assert await held.decide(vendor.station, ANN, pair.partnership, "in", "drop") == {"refused": 1}
    await pair.settle()
    assert await notes_of(vendor, "alive") == 2
    shown = await partner.read(views.read_shared_deal, "partner", 1)
    assert [each["sync"] for each in shown["notes"]].count("refused") == 1
    async with partner.station.working(partner.author) as work:
        await bring_note_back(work, LEAST + 1)
    await pair.settle()
    assert (await notes_of(vendor, "alive"), await notes_of(partner, "alive")) == (2, 2)


async def test_unsharings_that_were_held_are_as_if_they_had_not_been_once_dropped(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await set_brakes(pair, OFF, OFF)
    for number in range(LEAST + 1):
        await pair.share_deal(f"Company{number}")
    await pair.settle()
    await set_brakes(pair, TIGHT, OFF)
    for shared_deal in range(2, LEAST + 3):
        await partner.do(unshare, shared_deal)
    await settle_but_held(pair)
    assert (await status(partner))["held_outgoing"] == 1
    await held.decide(partner.station, ANN, pair.partnership, "out", "drop")
    await partner.do(save_shared, LEAST + 2, {"next_step": "still shared"})
    await pair.settle()
    for side in (partner, vendor):
        statuses = [row["status"] for row in await side.read(views.list_shared_deals, {})]
        assert (statuses.count("unshared"), statuses.count("active")) == (LEAST, 2)
    await pair.check_same()


async def test_the_parts_of_a_deleted_deal_count_because_the_deal_can_come_back(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await set_brakes(pair, OFF, TIGHT)
    await partner.do(delete_for_both, 1, None)
    await remove_notes(partner, 7)
    await partner.do(restore, 1)
    await until_held(vendor, 2)
    await pair.settle()
    assert (await notes_of(vendor, "deleted"), await notes_of(vendor, "alive")) == (LEAST, 2)


async def test_what_each_side_deletes_of_its_own_in_deals_whose_days_are_over_counts_for_nobody(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await pair.share_deal("Hooli")
    await pair.settle()
    await partner.do(add_note, 2, "stays")
    await set_brakes(pair, TIGHT, TIGHT)
    await partner.do(delete_for_both, 1, None)
    await pair.settle()
    await set_brakes(pair, *[TIGHT._replace(trash_days=-8)] * 2)
    await sweep(partner.station)
    await partner.do(remove, "note", 8)
    await pair.settle()
    for side in (partner, vendor):
        assert (await status(side))["held_outgoing"] == (await status(side))["held_incoming"] == 0
        assert await notes_of(side, "deleted") == 7


async def test_an_outgoing_erasure_can_only_be_released_because_its_content_is_gone(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await set_brakes(pair, TIGHT, OFF)
    for number in range(1, LEAST + 2):
        await partner.do(erase_text, "note", number)
    await settle_but_held(pair)
    assert (await held.decide(partner.station, ANN, pair.partnership, "out", "drop")) == {"taken back": 0, "still held": 1}
    assert await notes_of(vendor, "erased") == LEAST
    await held.decide(partner.station, ANN, pair.partnership, "out", "release")
    await pair.settle()
    assert await notes_of(vendor, "erased") == LEAST + 1
    assert await partner.rows(select(outbox.c.id)) == []


async def test_a_restore_of_a_deal_that_a_held_deletion_follows_is_not_lost(pair: Pair) -> None:
    """Deleted, restored, deleted again while the brake holds: after the release both sides have it deleted."""
    partner = pair.partner
    await set_brakes(pair, Keeping(brake=Limits(1, 0)), OFF)
    await remove_notes(partner, LEAST)
    for number in range(LEAST):
        await pair.share_deal(f"Company{number}")
    for shared_deal in range(2, LEAST + 2):
        await partner.do(delete_for_both, shared_deal, None)
    await partner.do(delete_for_both, 1, None)
    await partner.do(restore, 1)
    await partner.do(delete_for_both, 1, None)
    await settle_but_held(pair)
    assert (await status(partner))["held_outgoing"] == 3
    await held.decide(partner.station, ANN, pair.partnership, "out", "release")
    await pair.settle()
    for side in (partner, pair.vendor):
        states = {row["id"]: row["state"] for row in await side.read(views.list_shared_deals, {})}
        assert set(states.values()) == {"deleted"}, (side.station.spec.side, states)
    await pair.check_same()
