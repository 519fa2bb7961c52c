"""What is replayed and can still not be applied stays parked for the reason of today, and leaves by whatever gets it out of that; what is
parked keeps its place, its bytes and its stack, and its sender is told."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update

from shared_schema.contract.envelope import EVENT_BYTES_MAX
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.tables import shared_records
from shared_schema.sync import apply, arrivals, dead_letters, held, metrics, refusals, tables
from shared_schema.sync.braking import LEAST, Limits
from shared_schema.sync.dead_letters import Replayed
from shared_schema.sync.tables import outbox, parked, restorations
from tests.contract.golden import SAMPLES
from tests.integration.test_dead_letters import ADMIN, EVENT, PERSON, Inbox, P, open_inbox, person, stumble_over

SHARED = next(sample.value for sample in SAMPLES if sample.type == "deal.shared")
DEAL = json.loads(SHARED)["registration"]
TEXT = next(json.loads(sample.value) for sample in SAMPLES if sample.type == "note.added")["data"]["records"][0]["fields"]
DELETED = next(json.loads(sample.value) for sample in SAMPLES if sample.type == "note.deleted")["data"]["records"][0]["fields"]
NOTE, OTHER_NOTE, COMMENT, OTHER_COMMENT = (EVENT % count for count in (0x70, 0x71, 0x72, 0x73))
RECORD = PERSON["data"]["records"][0]


def say(count: int, *records: tuple[str, str, str]) -> bytes:
    """An event of new texts, each (uid, kind, parent)."""
    made = [RECORD | {"uid": uid, "kind": kind, "parent": parent, "registration": DEAL, "fields": TEXT} for uid, kind, parent in records]
    return person(count, registration=DEAL, data={"records": made})


def say_ours(count: int, *records: tuple[str, str, str]) -> bytes:
    """The same as texts of this side's, which the peer gives back."""
    return say(count, *records).replace(b'"partner"', b'"vendor"').replace(b'"p-', b'"v-')


def delete_comment(count: int) -> bytes:
    """An event of a comment on NOTE that comes deleted."""
    record = {"uid": EVENT % (0x80 + count), "kind": "comment", "parent": NOTE, "registration": DEAL, "fields": TEXT | DELETED}
    return person(0x90 + count, registration=DEAL, data={"records": [RECORD | record]})


ADDED, OTHER_ADDED = say(0x60, (NOTE, "note", DEAL)), say(0x61, (OTHER_NOTE, "note", DEAL))
COMMENTED = say(0x62, (COMMENT, "comment", NOTE))
COMMENTED_BOTH = say(0x63, (COMMENT, "comment", NOTE), (OTHER_COMMENT, "comment", OTHER_NOTE))


OUR_COMMENT = say_ours(0x64, (COMMENT, "comment", NOTE))
OUR_COMMENTS = say_ours(0x65, (COMMENT, "comment", NOTE), (OTHER_COMMENT, "comment", OTHER_NOTE))


@pytest.fixture
async def inbox(database_url: str) -> AsyncIterator[Inbox]:
    async with open_inbox(database_url) as opened:
        yield opened


@pytest.fixture
async def dealing(inbox: Inbox) -> Inbox:
    """With a shared deal."""
    await inbox.put(SHARED)
    inbox.consumer.brake = Limits(1, 100)
    return inbox


async def letters(inbox: Inbox, *columns: str) -> list[Sequence[Any]]:
    return [tuple(row) for row in await inbox.rows(select(*(parked.c[name] for name in columns)).order_by(parked.c.id))]


async def is_stored(inbox: Inbox, uid: str) -> bool:
    return bool(await inbox.rows(select(shared_records.c.uid).where(shared_records.c.uid == uid)))


async def test_a_poisonous_child_replayed_before_its_parent_waits_for_it_and_leaves_when_it_comes(
    dealing: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        await stumble_over(broken, EVENT % 0x62)
        await dealing.put(COMMENTED)
    ((letter, *place),) = await letters(dealing, "id", "record_offset", "at_ms")
    assert await dealing.replay(letter, letter) == [Replayed(letter, "parked", "missing_parent")] * 2
    assert await letters(dealing, "id", "record_offset", "at_ms", "reason", "waits_for") == [(letter, *place, "missing_parent", NOTE)]
    await dealing.put(ADDED)
    assert await letters(dealing, "id") == [] and await is_stored(dealing, COMMENT)
    said = [(outcome, reason) for event, outcome, reason in await dealing.answers() if event == EVENT % 0x62]
    assert said == [("parked", "poison"), ("parked", "missing_parent"), ("applied", "after all")]


async def test_a_held_deletion_that_is_released_before_its_parent_waits_for_it_and_is_applied_when_it_comes(dealing: Inbox) -> None:
    for count in range(LEAST + 1):
        await dealing.put(delete_comment(count))
    *_, (letter, reason) = await letters(dealing, "id", "reason")
    assert reason == "brake"
    assert await held.decide(dealing.station, ADMIN, P, "in", "release") == {"parked": 1}
    assert (await letters(dealing, "id", "reason", "waits_for"))[-1] == (letter, "missing_parent", NOTE)
    await dealing.put(ADDED)
    assert await letters(dealing, "reason") == []
    states = await dealing.rows(select(shared_records.c.state).where(shared_records.c.kind == "comment"))
    assert [row.state for row in states] == ["deleted"] * (LEAST + 1)
    said = [(outcome, reason) for event, outcome, reason in await dealing.answers() if event == EVENT % (0x90 + LEAST)]
    assert said == [("parked", "brake"), ("parked", "missing_parent"), ("applied", "after all")]


async def test_a_replayed_parent_is_applied_although_its_child_waits_for_another_one_too(
    dealing: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        await stumble_over(broken, EVENT % 0x60)
        await dealing.put(ADDED)
    await dealing.put(COMMENTED_BOTH)
    parent, child = await letters(dealing, "id", "record_offset", "at_ms")
    assert await dealing.replay(parent[0]) == [Replayed(parent[0], "applied", partnership=P)]
    assert await is_stored(dealing, NOTE)
    assert await letters(dealing, "id", "record_offset", "at_ms", "waits_for") == [(*child, OTHER_NOTE)]
    await dealing.put(OTHER_ADDED)
    assert await letters(dealing, "id") == [] and await is_stored(dealing, OTHER_COMMENT)


@pytest.mark.parametrize("parent_is_a_letter", [False, True])
async def test_a_child_that_can_not_be_applied_does_not_keep_its_parent_away(
    dealing: Inbox, monkeypatch: pytest.MonkeyPatch, parent_is_a_letter: bool
) -> None:
    await dealing.put(COMMENTED)
    with monkeypatch.context() as broken:
        await stumble_over(broken, EVENT % 0x62)
        if parent_is_a_letter:
            with monkeypatch.context() as worse:
                await stumble_over(worse, EVENT % 0x60)
                await dealing.put(ADDED)
            *_, (letter,) = await letters(dealing, "id")
            assert await dealing.replay(letter) == [Replayed(letter, "applied", partnership=P)]
        else:
            await dealing.put(ADDED)
        assert await is_stored(dealing, NOTE)
        assert await letters(dealing, "event", "reason") == [(EVENT % 0x62, "missing_parent")]
        await dead_letters.replay_ready(dealing.station, P)
        assert await letters(dealing, "event", "reason", "waits_for") == [(EVENT % 0x62, "poison", None)]
    ((letter,),) = await letters(dealing, "id")
    assert await dealing.replay(letter) == [Replayed(letter, "applied", partnership=P)]
    assert await letters(dealing, "id") == [] and await is_stored(dealing, COMMENT)


async def refused(inbox: Inbox, uid: str) -> list[str]:
    """The reasons for which something of a record was refused."""
    return [row.reason for row in await inbox.rows(select(tables.refusals.c.reason).where(tables.refusals.c.uid == uid))]


async def come_while_restoring(inbox: Inbox, *payloads: bytes) -> None:
    """Events that come while this store, which went back, gets its states."""
    async with inbox.station.database.transaction() as tx:
        row = {"partnership": P, "request": EVENT % 0xFF, "why": "a test says so", "since_ms": 0, "asked_ms": 0}
        await tx.execute(insert(restorations).values(row | {"merged": False, "doubted": False}))
    inbox.consumer.begin_restoring()
    await inbox.put(*payloads)
    async with inbox.station.database.transaction() as tx:
        await tx.execute(delete(restorations))


async def come_as_poison(inbox: Inbox, monkeypatch: pytest.MonkeyPatch, event: str, payload: bytes) -> int:
    """An event that our code fails at comes amid a restoration; the letter that it lies in."""
    with monkeypatch.context() as broken:
        await stumble_over(broken, event)
        await come_while_restoring(inbox, payload)
    letter: int = (await letters(inbox, "id"))[-1][0]
    return letter


@pytest.mark.parametrize("times", [1, 2])
async def test_our_own_that_came_back_before_its_parent_is_taken_for_our_own_when_that_comes(dealing: Inbox, times: int) -> None:
    await come_while_restoring(dealing, OUR_COMMENT if times == 1 else OUR_COMMENTS)
    for parent in (ADDED, OTHER_ADDED)[:times]:
        assert await letters(dealing, "restoring") == [(True,)]
        await dealing.put(parent)
    assert await letters(dealing, "id") == [] and await is_stored(dealing, COMMENT)
    assert await refused(dealing, COMMENT) == []


async def test_what_waited_before_a_restoration_is_no_more_our_own_for_a_parent_that_is_replayed(
    dealing: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dealing.put(OUR_COMMENT)
    await dealing.replay(await come_as_poison(dealing, monkeypatch, EVENT % 0x60, ADDED))
    assert await is_stored(dealing, NOTE) and not await is_stored(dealing, COMMENT)
    assert await refused(dealing, COMMENT) == ["own_record_unknown"]


async def test_our_own_that_was_poison_while_it_came_back_is_our_own_when_it_is_replayed(
    dealing: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dealing.put(ADDED)
    letter = await come_as_poison(dealing, monkeypatch, EVENT % 0x64, OUR_COMMENT)
    assert await dealing.replay(letter) == [Replayed(letter, "applied", partnership=P)]
    assert await is_stored(dealing, COMMENT)


async def test_a_registration_that_was_poison_while_it_came_back_is_not_decided_on_again(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it comes what this side decided before its store went back: refused, the registration would be a new one."""
    decided = {"decision": "rejected", "reason": "taken", "at": 1, "round": 1}
    sibling = {"actor": None, "dot": ["v-8c1f0b6a2d94e357", 1], "stamp": [1, 0], "value": decided}
    event = json.loads(SHARED)
    (registration,) = [each for each in event["data"]["records"] if each["kind"] == "registration"]
    registration["fields"]["decision"] = {"context": {"v-8c1f0b6a2d94e357": 1}, "siblings": [sibling]}
    await inbox.replay(await come_as_poison(inbox, monkeypatch, event["id"], json.dumps(event).encode()))
    assert await inbox.rows(select(shared_deals.c.status)) == [("rejected",)]
    assert await inbox.rows(select(tables.reactions.c.kind)) == []


async def test_what_waits_for_one_parent_after_the_other_keeps_where_it_stood_and_since_when(dealing: Inbox) -> None:
    await dealing.put(COMMENTED_BOTH)
    async with dealing.station.database.transaction() as tx:
        await tx.execute(update(parked).values(at_ms=7))
    before = await letters(dealing, "id", "record_offset", "at_ms", "headers", "payload")
    await dealing.put(ADDED)
    assert await letters(dealing, "id", "record_offset", "at_ms", "headers", "payload") == before
    assert await letters(dealing, "record_offset", "at_ms", "waits_for") == [(1, 7, OTHER_NOTE)]


async def test_a_long_stack_is_kept_with_its_beginning_and_with_the_exception_itself(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(tx: Any, *_: Any) -> None:
        await tx.execute(text("SELECT no_such_column FROM shared_records"))

    with monkeypatch.context() as broken:
        broken.setattr(apply, "append_history", fail)
        await inbox.put(person(1))
        ((letter, detail),) = await letters(inbox, "id", "detail")
        await inbox.replay(letter)
    ((again,),) = await letters(inbox, "detail")
    for each in (detail, again):
        assert each.startswith("Traceback") and "[SQL: SELECT no_such_column FROM shared_records]" in each[-500:]
        assert len(each) < 4_100


async def test_poison_is_counted_and_of_an_outcome_nobody_is_told(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = metrics.parked_now.labels(P, "poison")
    before = counter._value.get()
    outcome = next(json.loads(sample.value) for sample in SAMPLES if sample.type == "outcome.reported")
    await stumble_over(monkeypatch, outcome["id"])
    await inbox.put(json.dumps(outcome).encode())
    assert await letters(inbox, "reason", "event") == [("poison", None)]
    assert await inbox.answers() == []
    assert counter._value.get() == before + 1


async def test_an_event_of_another_partnership_is_told_refused_listed_and_counted_until_it_is_discarded(inbox: Inbox) -> None:
    counter = metrics.refused.labels(P, "wrong_partnership")
    before = counter._value.get()
    await inbox.put(person(1, partnership="initech-besta"))
    assert await inbox.answers() == [(EVENT % 1, "refused", "wrong_partnership")]
    async with inbox.station.database.reading() as connection:
        (listed,) = await refusals.list_refused(connection, P)
    assert (listed["event"], listed["reason"], listed["field"]) == (EVENT % 1, "wrong_partnership", "")
    assert counter._value.get() == before + 1
    ((letter, event),) = await letters(inbox, "id", "event")
    assert event == EVENT % 1
    async with inbox.station.working(ADMIN) as work:
        await dead_letters.discard(work, letter, "a forgery")
    async with inbox.station.database.reading() as connection:
        assert await refusals.list_refused(connection, P) == []


async def test_whoever_sent_what_can_not_be_read_is_told_where_its_id_can(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    real = arrivals.decode_event

    def trip(payload: bytes | None) -> Any:
        if payload == person(4):
            raise RuntimeError("a defect of ours")
        return real(payload)

    monkeypatch.setattr(arrivals, "decode_event", trip)
    oversized = person(1, data={"records": [], "padding": "x" * EVENT_BYTES_MAX})
    outcome = person(5, type="outcome.reported", data={"padding": "x" * EVENT_BYTES_MAX})
    await inbox.put(oversized, person(2, dataschema=7), person(3, stamp="now"), person(4), outcome, b"[" + person(6))
    reasons = [(1, "oversized"), (2, "malformed"), (3, "malformed"), (4, "poison")]
    assert await inbox.answers() == [(EVENT % count, "parked", reason) for count, reason in reasons]
    assert await letters(inbox, "reason", "event") == [
        *((reason, EVENT % count) for count, reason in reasons),
        ("oversized", None),
        ("malformed", None),
    ]
    assert len(await inbox.rows(select(outbox.c.id))) == len(reasons)


async def test_a_released_deletion_that_waits_for_its_parent_is_not_held_again_by_a_replay(dealing: Inbox) -> None:
    for count in range(LEAST + 1):
        await dealing.put(delete_comment(count))
    letter, _ = (await letters(dealing, "id", "reason"))[-1]
    assert await held.decide(dealing.station, ADMIN, P, "in", "release") == {"parked": 1}
    await dealing.replay(letter)
    assert (await letters(dealing, "id", "reason"))[-1] == (letter, "missing_parent")
    await dealing.put(ADDED)
    assert await letters(dealing, "reason") == []
