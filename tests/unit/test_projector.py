"""What a store is projected for, against what a version knows: as a pure function."""

from shared_schema.sync.projector import Reached, plan

OLD, NEW = frozenset({"deal.name"}), frozenset({"deal.name", "deal.rival", "quote.title"})
ADDED = NEW - OLD


def test_a_fresh_store_and_one_that_is_up_to_all_fields_have_nothing_to_do() -> None:
    assert plan(None, NEW, alone=True) == plan(None, NEW, alone=False) == Reached(NEW, frozenset())
    assert plan(Reached(NEW, frozenset()), NEW, alone=True) == Reached(NEW, frozenset())


def test_fields_that_are_new_to_the_store_are_added_and_work_that_was_begun_goes_on_where_it_was() -> None:
    assert plan(Reached(OLD, frozenset()), NEW, alone=True) == Reached(OLD, ADDED)
    begun = Reached(OLD, ADDED, "acme", "uid")
    assert plan(begun, NEW, alone=True) == begun


def test_a_yet_newer_version_begins_anew_with_all_that_is_added() -> None:
    newer = NEW | {"deal.risk"}
    assert plan(Reached(OLD, ADDED, "acme", "uid"), newer, alone=True) == Reached(OLD, ADDED | {"deal.risk"})


def test_nothing_begins_while_another_version_lives_and_what_had_begun_begins_anew_after_it() -> None:
    assert plan(Reached(OLD, frozenset()), NEW, alone=False) == Reached(OLD, frozenset())
    assert plan(Reached(OLD, ADDED, "acme", "uid"), NEW, alone=False) == Reached(OLD, frozenset())


def test_an_older_version_takes_back_what_it_does_not_know() -> None:
    for alone in (True, False):
        assert plan(Reached(NEW, frozenset()), OLD, alone) == Reached(OLD, frozenset())
