"""Where a save goes, and whether a deal's column goes with a registration's field: as pure functions."""

from typing import Any

import pytest

from shared_schema.contract.documents import Document
from shared_schema.contract.policy import Policy
from shared_schema.contract.registers import EMPTY, Dot, Register, Sibling, Stamp
from shared_schema.crm.problems import Invalid
from shared_schema.crm.shared_deals import Tie, is_followed, keeps, went_with
from shared_schema.sync.deals import Standing, choose_targets, find_agreeing

DEAL = {"id": 3, "name": "Depots", "amount": {"amount": "5", "currency": "EUR"}, "close_date": None, "next_step": "Call"}
DEAL |= {"pipeline": "Sales", "stage": "New"}


def make_register(*values: Any) -> Register:
    siblings = tuple(Sibling(Dot("p-1", count), Stamp(count, 0), None, value) for count, value in enumerate(values, 1))
    return Register({"p-1": len(values)}, siblings) if values else EMPTY


def make_document(**fields: Any) -> Document:
    return Document.of({name: make_register(value) for name, value in fields.items()})


def make_row(**columns: Any) -> dict[str, Any]:
    row = {"name": "Depots", "amount": "5", "currency": "EUR", "close_date": None, "next_step": None, "stand_in": False}
    return row | {"open_registrations": 1, "status": "active", "state": "alive"} | columns


FOLLOWING = [
    ("name", ("Depots",), {}, True),
    ("name", ("Other",), {}, False),
    ("name", ("Other", "Depots"), {}, True),
    ("name", (), {}, False),
    ("name", (), {"stand_in": True}, True),
    ("name", ("Other",), {"stand_in": True}, False),
    ("next_step", (), {}, True),
    ("next_step", (), {"next_step": "ours"}, False),
    ("next_step", (), {"next_step": "ours", "stand_in": True}, False),
    ("next_step", (None,), {}, True),
    ("amount", ({"amount": "5", "currency": "EUR"},), {}, True),
    ("amount", ({"amount": "5", "currency": "USD"},), {}, False),
    ("close_date", ("of a newer version",), {}, True),
    ("close_date", ("of a newer version",), {"close_date": "2027-01-01"}, False),
]


@pytest.mark.parametrize(("name", "before", "columns", "follows"), FOLLOWING)
def test_a_column_follows_a_field_whose_value_it_had_and_no_other(
    name: str, before: tuple[Any, ...], columns: dict[str, Any], follows: bool
) -> None:
    assert went_with(name, make_register(*before), make_row(**columns)) is follows


def test_only_the_single_open_and_living_registration_is_followed() -> None:
    assert is_followed(make_row())
    for other in ({"open_registrations": 2}, {"status": "won"}, {"state": "deleted"}, {"open_registrations": 0}):
        assert not is_followed(make_row(**other))
    assert is_followed(make_row(state="contested"))


def tie(number: int, partnership: str, status: str, state: str = "alive") -> Tie:
    return Tie(number, partnership, str(number), 1, status, state)


KEEPING = [
    (tie(1, "acme", "active"), True, True),
    (tie(1, "acme", "unshared"), False, False),
    (tie(1, "acme", "rejected"), False, False),
    (tie(3, "acme", "unshared"), True, True),
    (tie(3, "acme", "rejected"), True, True),
    (tie(3, "acme", "active", "deleted"), False, False),
    (tie(3, "acme", "erased"), False, False),
    (tie(1, "besta", "won"), True, True),
    (tie(1, "besta", "unshared"), True, False),
    (tie(1, "besta", "unshared", "deleted"), False, False),
    (tie(1, "besta", "erased", "erased"), False, False),
]


@pytest.mark.parametrize(("other", "by_theirs", "by_own"), KEEPING)
def test_a_deal_is_kept_for_what_it_is_shared_in_and_an_ended_registration_does_not_keep_what_a_later_one_said(
    other: Tie, by_theirs: bool, by_own: bool
) -> None:
    for status, state in (("erased", "erased"), ("active", "deleted")):
        gone = tie(2, "acme", status, state)
        assert (keeps(other, gone, own_word=False), keeps(other, gone, own_word=True)) == (by_theirs, by_own)


def test_a_registration_agrees_in_what_it_shows_alike_and_in_a_stage_that_it_was_not_told() -> None:
    document = make_document(name="Depots", amount={"amount": "5", "currency": "EUR"}, next_step="Mail")
    assert find_agreeing("vendor", DEAL, document, Policy()) == {"name", "amount", "close_date", "vendor_stage"}
    told = make_document(vendor_stage={"pipeline": "Sales", "stage": "Won"})
    assert "vendor_stage" not in find_agreeing("vendor", DEAL, told, Policy())
    assert "partner_stage" in find_agreeing("partner", DEAL, told, Policy())


def stand(number: int, *agreeing: str, writable: tuple[str, ...] = ("name", "amount")) -> Standing:
    return Standing({"id": number}, Document(), Policy(), frozenset(agreeing), frozenset(writable))


def test_what_is_not_ones_own_to_write_goes_by_name_alone() -> None:
    standing = stand(1, "name", "amount", writable=("amount",))
    assert [choose_targets(DEAL, [standing], None, None).goes(standing, name) for name in ("name", "amount")] == [False, True]
    assert choose_targets(DEAL, [standing], None, {1: {}}).goes(standing, "name")


def test_a_save_goes_where_it_says_or_else_to_those_that_agreed() -> None:
    first, second = stand(1, "name"), stand(2)
    unnamed = choose_targets(DEAL, [first, second], None, None)
    assert unnamed.goes(first, "name") and not unnamed.goes(first, "amount") and not unnamed.goes(second, "name")
    named = choose_targets(DEAL, [first, second], None, {2: {"name": "token"}})
    assert named.goes(second, "name") and named.goes(second, "amount") and not named.goes(first, "name")
    assert named.tokens(second) == {"name": "token"}
    nobody = choose_targets(DEAL, [first], None, {})
    assert not nobody.goes(first, "name")
    seen = choose_targets(DEAL, [second], {"amount": "token"}, None)
    assert seen.goes(second, "amount") and not seen.goes(second, "name") and seen.tokens(second) == {"amount": "token"}


def test_what_could_mean_two_registrations_is_an_error() -> None:
    for known, seen, named, told in (
        ([stand(1), stand(2)], {"name": "token"}, None, "seen belongs to one"),
        ([stand(1)], {"name": "token"}, {1: {}}, "seen belongs to one"),
        ([stand(1)], None, {1: {}, 9: {}}, "names 9, which is not open in this deal; 1 is"),
        ([], None, {9: {}}, "none is"),
    ):
        with pytest.raises(Invalid, match=told):
            choose_targets(DEAL, known, seen, named)
