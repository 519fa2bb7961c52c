"""What a person discarded stays discarded however it comes once more, unless it can be applied then; what only looks like it does not."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import update

from shared_schema.sync import dead_letters, metrics, refusals
from shared_schema.sync.braking import LEAST, Limits
from shared_schema.sync.tables import inbound_positions
from shared_schema.sync.transport import Received
from tests.integration.test_dead_letters import ADMIN, EVENT, Inbox, P, newer, open_inbox, person, stumble_over
from tests.integration.test_replayed import ADDED, COMMENT, COMMENTED, SHARED, delete_comment, is_stored, letters

TOLD = "discarded: no sense in it"
ORPHAN = EVENT % 0x62


@pytest.fixture
async def inbox(database_url: str) -> AsyncIterator[Inbox]:
    async with open_inbox(database_url) as opened:
        yield opened


async def discard_all(inbox: Inbox) -> None:
    for (letter,) in await letters(inbox, "id"):
        async with inbox.station.working(ADMIN) as work:
            await dead_letters.discard(work, letter, "no sense in it")


async def read_again(inbox: Inbox, *payloads: bytes) -> None:
    """The topic from its beginning."""
    async with inbox.station.database.transaction() as tx:
        await tx.execute(update(inbound_positions).values(next_offset=0))
    inbox.count = 0
    await inbox.put(*payloads)


async def test_what_was_discarded_is_left_so_when_its_topic_is_read_again_and_its_sender_hears_the_same(inbox: Inbox) -> None:
    topic = [newer(1), b"not JSON at all", person(2), COMMENTED, person(3, partnership="initech-besta")]
    await inbox.put(*topic)
    assert await letters(inbox, "reason") == [("newer_major",), ("malformed",), ("wrong_partnership",), ("missing_parent",)]
    await discard_all(inbox)
    told = await inbox.answers()
    counted = metrics.refused.labels(P, "wrong_partnership")._value.get()
    await read_again(inbox, *topic, newer(4), newer(1))
    assert await letters(inbox, "event") == [(EVENT % 4,)], "only what is new"
    again = (await inbox.answers())[len(told) :]
    assert sorted(again) == sorted(
        [*((event, "refused", TOLD) for event in (EVENT % 1, EVENT % 3, ORPHAN)), (EVENT % 4, "parked", "newer_major")]
    )
    async with inbox.station.database.reading() as connection:
        assert await refusals.list_refused(connection, P) == [], "a person's word is no alarm"
    assert metrics.refused.labels(P, "wrong_partnership")._value.get() == counted
    assert (P, TOLD) not in metrics.refused._metrics


async def test_what_no_number_names_is_told_by_where_it_stood(inbox: Inbox) -> None:
    def garbage(offset: int) -> Received:
        return Received(inbox.consumer.inbound, offset, 0, None, b"{]", ())

    await inbox.consumer.receive([garbage(0)], 0)
    await discard_all(inbox)
    async with inbox.station.database.transaction() as tx:
        await tx.execute(update(inbound_positions).values(next_offset=0))
    await inbox.consumer.receive([garbage(0), garbage(1)], 0)
    assert await letters(inbox, "record_offset") == [(1,)]


async def test_the_same_bytes_under_another_number_are_another_record_unless_they_are_an_event(inbox: Inbox) -> None:
    await inbox.put(b"{]", newer(1))
    await discard_all(inbox)
    await inbox.put(b"{]", newer(1))
    assert await letters(inbox, "reason", "record_offset") == [("malformed", 2)]


async def test_other_bytes_in_the_same_place_are_another_record(inbox: Inbox) -> None:
    await inbox.put(b"{]", newer(1))
    await discard_all(inbox)
    await read_again(inbox, b"[}", newer(1).replace(b"of tomorrow", b"of next year"))
    assert await letters(inbox, "reason") == [("malformed",), ("newer_major",)]


async def test_a_discarded_poison_is_left_so_alone(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    await stumble_over(monkeypatch, EVENT % 2)
    await inbox.put(person(1), person(2))
    await discard_all(inbox)
    counted = metrics.parked_now.labels(P, "poison")._value.get()
    await read_again(inbox, person(1), person(2), person(3))
    assert await letters(inbox, "event") == []
    assert [each for each in await inbox.answers() if each[0] == EVENT % 2][-1] == (EVENT % 2, "refused", TOLD)
    assert metrics.parked_now.labels(P, "poison")._value.get() == counted


async def test_what_was_discarded_and_can_be_applied_when_it_comes_once_more_is_told_applied(inbox: Inbox) -> None:
    await inbox.put(COMMENTED, newer(1))
    await discard_all(inbox)
    told = await inbox.answers()
    await inbox.put(SHARED, ADDED, COMMENTED, person(5))
    assert await is_stored(inbox, COMMENT)
    assert (await inbox.answers())[len(told) :] == [(ORPHAN, "applied", "after all")]


async def test_what_was_discarded_and_is_held_when_it_comes_once_more_is_told_parked_alone(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.consumer.brake = Limits(1, 100)
    deletions = [delete_comment(count) for count in range(LEAST + 1)]
    last = EVENT % (0x90 + LEAST)
    with monkeypatch.context() as broken:
        await stumble_over(broken, last)
        await inbox.put(SHARED, ADDED, *deletions)
    await discard_all(inbox)
    told = await inbox.answers()
    await inbox.put(deletions[-1])
    await inbox.put(deletions[-1])
    assert (await inbox.answers())[len(told) :] == [(last, "parked", "brake")]
    assert await letters(inbox, "event", "reason") == [(last, "brake")]


async def test_what_left_parking_and_returns_was_not_discarded(inbox: Inbox) -> None:
    """Although its like was: it had come twice while it was parked."""
    await inbox.put(newer(1))
    await read_again(inbox, newer(1))
    (first, *others) = await letters(inbox, "id")
    async with inbox.station.working(ADMIN) as work:
        await dead_letters.discard(work, first[0], "no sense in it")
    for (letter,) in others:
        ((result),) = await inbox.replay(letter)
        assert (result.result, result.reason) == ("parked", "newer_major")
