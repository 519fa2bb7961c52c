"""What the peer said last about an event stands, although what it had said before arrives once more."""

from typing import Any

from shared_schema.contract.codec import Outcome
from shared_schema.sync.heard import SAID_BY_MAX, Told, sort_out

EVENT = "01998f50-0000-7000-8000-000000000001"
PARKED = Told("said-1", Outcome(EVENT, "parked", "brake"))
REFUSED = Told("said-2", Outcome(EVENT, "refused", "dropped by a person"))
AGAIN = Told("said-3", Outcome(EVENT, "parked", "brake"))


def hear(known: list[dict[str, Any]], *told: Told) -> list[dict[str, Any]]:
    """What is known after each of these arrived in a batch of its own."""
    for each in told:
        changed = sort_out(known, "acme", [each], 5)
        known = changed or known
    return known


def test_a_second_copy_of_an_earlier_answer_does_not_take_the_later_one_away() -> None:
    (row,) = hear([], PARKED, REFUSED, PARKED, REFUSED, PARKED)
    assert (row["outcome"], row["reason"], row["said_by"]) == ("refused", "dropped by a person", "said-1 said-2")


def test_nor_does_it_within_one_batch() -> None:
    (row,) = sort_out([], "acme", [PARKED, REFUSED, PARKED], 5)
    assert (row["outcome"], row["said_by"]) == ("refused", "said-1 said-2")
    assert sort_out([row], "acme", [PARKED, REFUSED], 6) == []


def test_a_new_answer_of_the_same_words_is_news() -> None:
    (row,) = hear([], PARKED, REFUSED, AGAIN)
    assert (row["outcome"], row["said_by"]) == ("parked", "said-1 said-2 said-3")


def test_answers_about_other_fields_and_records_stand_beside_it() -> None:
    fields = [Told("said-1", Outcome(EVENT, "conflict", "", "record", name)) for name in ("name", "amount")]
    assert [row["field"] for row in sort_out([], "acme", [*fields, PARKED], 5)] == ["name", "amount", ""]


def test_however_often_it_is_said_a_row_keeps_no_more_than_the_last_few_that_said_it() -> None:
    (row,) = hear([], *(PARKED._replace(by=f"said-{number}") for number in range(SAID_BY_MAX + 4)))
    assert row["said_by"].split() == [f"said-{number}" for number in range(4, SAID_BY_MAX + 4)]
