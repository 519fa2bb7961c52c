"""Canonical values: the same thing is the same bytes on both sides, and what does not fit says what would."""

from typing import Any

import pytest

from shared_schema.contract.records import InvalidValue, canonical_value, is_valid

CANONICAL = [
    ("deal", "amount", {"amount": "1250.500", "currency": "EUR"}, {"amount": "1250.5", "currency": "EUR"}),
    ("deal", "amount", {"amount": 7, "currency": "CHF"}, {"amount": "7", "currency": "CHF"}),
    ("deal", "amount", {"amount": "-0.00", "currency": "EUR"}, {"amount": "0", "currency": "EUR"}),
    ("deal", "amount", {"amount": "1E+3", "currency": "EUR"}, {"amount": "1000", "currency": "EUR"}),
    ("deal", "amount", None, None),
    ("deal", "name", "  Roll-out ", "Roll-out"),
    ("deal", "close_date", "2026-12-24", "2026-12-24"),
    ("product", "quantity", "010.0", "10"),
    ("registration", "rep", {"person": "x", "name": "Rita", "email": None}, {"person": "x", "name": "Rita"}),
]
WRONG = [
    ("deal", "amount", {"amount": 12.5, "currency": "EUR"}, "decimal as text"),
    ("deal", "amount", {"amount": True, "currency": "EUR"}, "decimal as text"),
    ("deal", "amount", {"amount": "NaN", "currency": "EUR"}, "at most 6 places"),
    ("deal", "amount", {"amount": "1e15", "currency": "EUR"}, "at most 6 places"),
    ("deal", "amount", {"amount": "1.0000001", "currency": "EUR"}, "at most 6 places"),
    ("deal", "amount", {"amount": "1", "currency": "eur"}, "ISO 4217"),
    ("deal", "amount", {"amount": "1"}, "together with a currency"),
    ("deal", "amount", "12 EUR", "together with a currency"),
    ("deal", "name", "", "may not be empty"),
    ("deal", "name", "a\x00b", "without NUL"),
    ("deal", "name", "x" * 501, "at most 500"),
    ("deal", "close_date", "24.12.2026", "such as 2026-11-30"),
    ("deal", "close_date", "2026-02-30", "such as 2026-11-30"),
    ("deal", "close_date", "20261224", "such as 2026-11-30"),
    ("deal", "colour", "red", "is not a field of a deal"),
    ("note", "body", "x" * 65_537, "65,536"),
    ("eligibility", "eligible", "yes", "true or false"),
    ("policy", "capacity", 1.5, "whole number"),
    ("registration", "rep", {"name": "Rita"}, "needs person"),
    ("registration", "rep", {"person": ["x"]}, "plain values"),
    ("deal", "life", {"state": "asleep"}, "alive"),
]


@pytest.mark.parametrize(("kind", "name", "given", "canonical"), CANONICAL)
def test_a_value_has_one_form(kind: str, name: str, given: Any, canonical: Any) -> None:
    assert canonical_value(kind, name, given) == canonical
    assert canonical_value(kind, name, canonical) == canonical


@pytest.mark.parametrize(("kind", "name", "given", "told"), WRONG)
def test_a_value_that_does_not_fit_says_what_would(kind: str, name: str, given: Any, told: str) -> None:
    with pytest.raises(InvalidValue, match=told) as caught:
        canonical_value(kind, name, given)
    assert caught.value.field == name
    assert not is_valid(kind, name, given)
