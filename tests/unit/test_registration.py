"""A registration's status is a function of what each side wrote: every course of its life, and what is concurrent."""

from typing import Any

import pytest

from shared_schema.contract.documents import Document
from shared_schema.contract.registers import Dot, Register, Sibling, Stamp
from shared_schema.contract.registration import is_active, is_open, status_of


def make_document(**fields: Any) -> Document:
    written = enumerate(fields.items(), 1)
    siblings = {name: Sibling(Dot("p-0000000000000001", count), Stamp(count, 0), None, value) for count, (name, value) in written}
    return Document.of({name: Register(dict([each.dot]), (each,)) for name, each in siblings.items()})


def submitted(round: int = 1) -> dict[str, Any]:
    return {"initiated_by": "partner", "submission": {"at": 1, "round": round}}


def decided(decision: str, **more: Any) -> dict[str, Any]:
    return {"decision": {"decision": decision, "at": 2, **more}}


def invited(answer: str | None = None) -> dict[str, Any]:
    said = {"initiated_by": "vendor", "invitation": {"at": 1}}
    return said | ({"answer": {"answer": answer, "at": 2}} if answer else {})


STATUSES = [
    ({}, "draft"),
    (submitted(), "submitted"),
    (submitted() | decided("under review"), "under review"),
    (submitted() | decided("approved"), "active"),
    (submitted() | decided("rejected", reason="known"), "rejected"),
    (submitted() | decided("action required", round=1), "action required"),
    (submitted(2) | decided("action required", round=1), "submitted"),
    (submitted(2) | decided("action required", round=2), "action required"),
    (submitted(2) | decided("rejected", round=1), "rejected"),
    (submitted() | decided("approved") | {"extension": {"at": 3, "until": "2027-03-01"}, "expires": "2027-02-01"}, "extension pending"),
    (submitted() | decided("approved") | {"extension": {"at": 3, "until": "2027-03-01"}, "expires": "2027-03-01"}, "active"),
    (submitted() | decided("won"), "won"),
    (submitted() | decided("revoked"), "revoked"),
    (submitted() | decided("revoked") | {"withdrawal": {"at": 3}}, "withdrawn"),
    (submitted() | decided("approved") | {"withdrawal": {"at": 3}, "unshared": {"at": 4}}, "unshared"),
    (invited(), "invited"),
    (invited("accepted"), "active"),
    (invited("declined"), "declined"),
    (invited("accepted") | decided("expired"), "expired"),
    (invited() | decided("invitation expired"), "invitation expired"),
    (invited("accepted") | decided("invitation expired"), "active"),
    (invited("declined") | decided("invitation expired"), "declined"),
    (invited() | decided("revoked"), "revoked"),
    ({"initiated_by": "vendor", "answer": {"answer": "accepted"}}, "draft"),
    (submitted() | {"decision": "not an object"}, "submitted"),
    (submitted() | decided("unheard of"), "submitted"),
]


@pytest.mark.parametrize(("fields", "status"), STATUSES)
def test_status(fields: dict[str, Any], status: str) -> None:
    assert status_of(make_document(**fields)) == status


def test_what_counts_as_open_and_active() -> None:
    statuses = ("draft", "submitted", "action required", "active", "extension pending", "won", "unshared")
    assert [each for each in statuses if is_open(each)] == ["submitted", "action required", "active", "extension pending"]
    assert [each for each in statuses if is_active(each)] == ["active", "extension pending"]
