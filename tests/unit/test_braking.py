"""When the brake holds, as a pure decision: by kind, within a window, against how many there were."""

import pytest

from shared_schema.contract.codec import RecordChange
from shared_schema.contract.documents import LIFE, Document, erase
from shared_schema.contract.life import ALIVE, make_deletion
from shared_schema.contract.registers import EMPTY, Dot, Register, Sibling, Stamp, write
from shared_schema.sync.braking import LEAST, Act, Ledger, Limits, act_of_change, allowed, spare

UID = "01998f3e-0000-7000-8000-00000000%04x"


def register(value: object, counter: int = 1, before: Register = EMPTY) -> Register:
    return write(before, before.context, Sibling(Dot("p-0000000000000001", counter), Stamp(1, 0), None, value))


def change(kind: str = "note", **parts: object) -> RecordChange:
    return RecordChange(UID % 1, kind, UID % 2, UID % 2, "partner", parts.pop("fields", {}), **parts)  # type: ignore[arg-type]  # as given


def acts(count: int, kind: str = "note", first: int = 0) -> list[Act]:
    return [Act(kind, UID % (first + number), "deleted", UID % 2) for number in range(count)]


@pytest.mark.parametrize(("lived", "passes"), [(0, LEAST), (10, LEAST), (100, 20), (500, 100), (1_000_000, 100)])
def test_so_many_pass_as_the_smaller_of_count_and_share_allows_but_always_a_few(lived: int, passes: int) -> None:
    assert allowed(lived, Limits(most=100, percent=20)) == passes


def test_a_share_of_all_of_them_leaves_the_count_alone_to_limit() -> None:
    assert allowed(3, Limits(most=100, percent=100)) == 100


def test_the_first_past_the_limit_is_held_and_other_kinds_go_on() -> None:
    ledger = Ledger(Limits(most=7, percent=100), lived={"note": 50, "comment": 50})
    for number in range(7):
        assert ledger.judge(f"event {number}", acts(1, first=number)) is None
    assert "8 of kind note" in str(ledger.judge("event 8", acts(1, first=8)))
    assert ledger.judge("event 9", acts(1, "comment", first=20)) is None
    assert [row["passed"] for row in ledger.rows] == [True] * 7 + [False, True]


def test_the_same_record_deleted_again_counts_once() -> None:
    ledger = Ledger(Limits(most=1, percent=0))
    for number in range(LEAST * 2):
        assert ledger.judge(f"event {number}", acts(LEAST)) is None


def test_what_follows_something_held_waits_behind_it_though_it_destroys_nothing() -> None:
    ledger = Ledger(Limits(most=1, percent=0))
    assert ledger.judge("too many", acts(LEAST + 1)) is not None
    assert ledger.judge("restore", [], {UID % 0}) is not None
    assert ledger.judge("another", [], {UID % 99}) is None


def test_one_event_of_very_many_is_held_as_a_whole() -> None:
    ledger = Ledger(Limits(), lived={"note": 100})
    assert ledger.judge("bulk", acts(21)) is not None
    assert not any(row["passed"] for row in ledger.rows)


def test_what_destroys_is_a_deletion_not_known_yet_an_erasure_or_a_first_unsharing() -> None:
    deletion = register(make_deletion(Document(), ()))
    assert act_of_change(change(fields={LIFE: deletion}), Document()) == Act("note", UID % 1, "deleted", UID % 2)
    assert act_of_change(change(fields={LIFE: deletion}), Document.of({LIFE: deletion})) is None
    assert act_of_change(change(fields={LIFE: register(ALIVE)}), Document()) is None
    assert act_of_change(change(fields={"body": register("x")}), Document()) is None
    flag = register({"at": 1})
    whole = act_of_change(change("registration", fields={"unshared": flag}), Document())
    assert whole is not None and (whole.kind, whole.act) == ("deal", "unshared")
    assert act_of_change(change("registration", fields={"unshared": flag}), Document.of({"unshared": flag})) is None
    assert act_of_change(change(erased=True), Document()) is not None and act_of_change(change(erased=True), erase()) is None
    contact = change("registration", erased_fields=("contact",))
    gone = Document()
    gone.erase(["contact"])
    assert act_of_change(contact, Document()) is not None and act_of_change(contact, gone) is None


def test_the_part_of_a_change_that_destroys_nothing_goes_on() -> None:
    body = register("x")
    kept = spare(change(fields={LIFE: register(make_deletion(Document(), ())), "body": body}))
    assert kept is not None and kept.fields == {"body": body}
    assert spare(change(fields={LIFE: register(ALIVE)})) is None and spare(change(erased=True)) is None
