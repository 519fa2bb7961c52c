"""Deletion laws (design §3.6): contested exactly if a value is outside the union of the deletions, or somebody restored meanwhile."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from shared_schema.contract.documents import LIFE, Document, erase
from shared_schema.contract.life import ALIVE, DeletionRule, hash_document, make_deletion, state_of, unseen_fields
from shared_schema.contract.registers import Dot, Register, Sibling, Stamp, in_dot_order, merge
from tests.property.test_registers import registers

FIELDS = ("name", "amount", "next_step")
UID = "01a0c450-6c00-71a4-af33-b1fbcf16676a"
RULES: tuple[DeletionRule, ...] = ("contest", "delete_wins", "add_wins")
contexts = registers().map(lambda register: register.context)


@st.composite
def shown_contexts(draw: st.DrawFn) -> dict[str, dict[str, int]]:
    return draw(st.dictionaries(st.sampled_from(FIELDS), contexts))


@st.composite
def looks(draw: st.DrawFn, document: Document) -> dict[str, dict[str, int]]:
    """Of each field some of the values that are there, or whatever a context may say."""
    written = {name: document.get(name).siblings for name in document}
    seen = {name: contexts | st.sets(st.sampled_from(there)).map(context_of) for name, there in written.items() if there}
    return draw(st.fixed_dictionaries(seen) | shown_contexts())


def context_of(siblings: Iterable[Sibling]) -> dict[str, int]:
    dots = sorted(each.dot for each in siblings)
    return {dot.incarnation: dot.counter for dot in dots}


@st.composite
def deleted(draw: st.DrawFn) -> tuple[Document, list[dict[str, dict[str, int]]], bool]:
    """A document with up to three concurrent deletions, what each had in view, and whether somebody restored at the same time."""
    document = Document.of(draw(st.dictionaries(st.sampled_from(FIELDS), registers())))
    views = draw(st.lists(looks(document), max_size=3))
    restored = draw(st.booleans())
    values = [make_deletion(document, FIELDS, view) for view in views] + [ALIVE] * restored
    siblings = [Sibling(Dot(f"v-{place:016x}", 1), Stamp(1, 0), None, value) for place, value in enumerate(values)]
    if siblings:
        document.put(LIFE, Register({each.dot.incarnation: 1 for each in siblings}, in_dot_order(siblings)))
    return document, views, restored


def was_seen(views: list[dict[str, dict[str, int]]], field: str, dot: Dot) -> bool:
    """Whether any of the deleting people was shown this write."""
    return any(view.get(field, {}).get(dot.incarnation, 0) >= dot.counter for view in views)


@given(deleted())
def test_contested_is_what_no_deletion_had_in_view_or_what_was_restored(
    case: tuple[Document, list[dict[str, dict[str, int]]], bool],
) -> None:
    document, views, restored = case
    unseen = {field for field in FIELDS if not all(was_seen(views, field, sibling.dot) for sibling in document.get(field).siblings)}
    if views:
        assert set(unseen_fields(document)) == unseen
    expected = "alive" if not views else "contested" if restored or unseen else "deleted"
    assert state_of(document, "contest") == expected


def test_two_deletions_that_had_everything_in_view_only_together_are_no_contest() -> None:
    written = [Sibling(Dot(f"p-{place:016x}", 1), Stamp(1, 0), None, f"value {place}") for place in range(2)]
    document = Document.of({"name": Register(context_of(written), in_dot_order(written))})
    deletions = [
        Sibling(Dot(f"v-{place:016x}", 1), Stamp(1, 0), None, make_deletion(document, FIELDS, {"name": context_of([each])}))
        for place, each in enumerate(written)
    ]
    states = []
    for some in (deletions[:1], deletions[1:], deletions):
        document.put(LIFE, Register(context_of(some), in_dot_order(some)))
        states.append(state_of(document, "contest"))
    assert states == ["contested", "contested", "deleted"]


@given(registers(), registers(), st.none() | shown_contexts())
def test_of_a_field_of_tomorrow_a_deletion_had_seen_as_much_as_of_todays(
    stored: Register, arriving: Register, shown: dict[str, dict[str, int]] | None
) -> None:
    """It names less of it, and what arrives later is contested or not all the same."""
    document = Document.of({"name": stored})
    view = (
        None
        if shown is None
        else {name: {each: min(last, stored.context.get(each, 0)) for each, last in context.items()} for name, context in shown.items()}
    )
    ends = []
    for known in (FIELDS, ()):
        later = Document.of({"name": merge(stored, arriving)})
        deletion = Sibling(Dot("v-0000000000000001", 1), Stamp(1, 0), None, make_deletion(document, known, view))
        later.put(LIFE, Register({deletion.dot.incarnation: 1}, (deletion,)))
        ends.append(unseen_fields(later))
    assert ends[0] == ends[1]


@given(deleted())
def test_of_a_note_the_deletion_stands_and_of_a_line_the_addition_wins(
    case: tuple[Document, list[dict[str, dict[str, int]]], bool],
) -> None:
    document, views, restored = case
    assert state_of(document, "delete_wins") == ("deleted" if views else "alive")
    assert state_of(document, "add_wins") == ("deleted" if views and not restored else "alive")


@given(deleted(), st.sampled_from(RULES))
def test_erased_is_erased_under_every_rule(case: tuple[Document, list[dict[str, dict[str, int]]], bool], rule: DeletionRule) -> None:
    assert state_of(case[0], rule) in ("alive", "deleted", "contested")
    assert state_of(erase(), rule) == "erased"


@given(deleted(), registers())
def test_once_deleted_and_uncontested_only_life_counts_in_the_hash(
    case: tuple[Document, list[dict[str, dict[str, int]]], bool], other: Register
) -> None:
    document = case[0]
    changed = Document.of({**document.registers(), "name": other})
    same = hash_document(UID, document, "deleted") == hash_document(UID, changed, "deleted")
    assert same
    if document.encode() != changed.encode():
        assert hash_document(UID, document, "alive") != hash_document(UID, changed, "alive")
