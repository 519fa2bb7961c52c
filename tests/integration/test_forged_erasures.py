"""A peer that erases what it may not is refused and leaves no trace; what it may erase is gone whether it was here or not."""

import json
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from shared_schema.contract.identifiers import policy_uid
from shared_schema.crm.tables import shared_records
from shared_schema.sync import refusals
from tests.integration.test_dead_letters import EVENT, Inbox, P, open_inbox, person


@pytest.fixture
async def inbox(database_url: str) -> AsyncIterator[Inbox]:
    async with open_inbox(database_url) as opened:
        yield opened


def erasure(count: int, kind: str, uid: str, side: str, **parts: object) -> bytes:
    above = EVENT % 0xA0 if kind == "note" else None
    record = {"uid": uid, "kind": kind, "parent": above, "registration": above, "side": side, "fields": {}, **parts}
    return person(count, type="record.erased", data={"records": [record]})


async def test_the_policy_our_people_and_fields_that_are_nobodys_data_are_not_erased(inbox: Inbox) -> None:
    await inbox.put(
        erasure(1, "policy", policy_uid(P), "vendor", erased=True),
        erasure(2, "person", EVENT % 0xB1, "vendor", erased=True),
        erasure(3, "note", EVENT % 0xB2, "partner", erased_fields=["body"], parent=None),
    )
    assert await inbox.rows(select(shared_records.c.uid)) == []
    async with inbox.station.database.reading() as connection:
        assert {row["reason"] for row in await refusals.list_refused(connection)} <= {"not_writable", "wrong_parent"}
    assert {outcome for _, outcome, _ in await inbox.answers()} == {"refused"}


async def test_a_note_that_is_not_here_is_erased_before_it_comes(inbox: Inbox) -> None:
    await inbox.put(erasure(1, "note", EVENT % 0xB3, "partner", erased=True))
    (row,) = await inbox.rows(select(shared_records.c.state, shared_records.c.document))
    assert (row.state, json.loads(row.document)) == ("erased", {"$erased": True})
