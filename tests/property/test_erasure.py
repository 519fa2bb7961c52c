"""Erased absorbs, whatever is merged and in whichever order, for whole records and for single fields; and strips events of what is gone."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from shared_schema.contract.codec import Event, EventData, RecordChange, decode_event, encode_event
from shared_schema.contract.documents import WHOLE, Document, merge_documents
from shared_schema.contract.erasure import may_erase, may_erase_fields, strip_event
from shared_schema.contract.registers import Dot, Register, Sibling, Stamp, encode_value

FIELDS = ("body", "contact", "name")
ROOT, CHILD, OTHER = (f"01998f3e-0000-7000-8000-00000000000{digit}" for digit in (1, 2, 3))


def register(counter: int) -> Register:
    dot = Dot("p-0000000000000001", counter)
    return Register({dot.incarnation: counter}, (Sibling(dot, Stamp(counter, 0), None, f"secret {counter}"),))


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A document with some fields, of which some, or all of it, may be erased."""
    names = draw(st.sets(st.sampled_from(FIELDS)))
    document = Document.of({name: register(draw(st.integers(1, 3))) for name in sorted(names)})
    gone = draw(st.sets(st.sampled_from(FIELDS), max_size=2))
    if gone:
        document.erase(gone)
    if draw(st.booleans()) and draw(st.booleans()):
        document.erase()
    return document


@given(st.lists(documents(), min_size=2, max_size=3))
def test_every_order_comes_to_the_same_and_nothing_erased_is_there(some: list[Document]) -> None:
    ends = set()
    for order in permutations(some):
        merged = order[0]
        for each in order[1:]:
            merged = merge_documents(merged, each)
        ends.add(merged.encode())
    (end,) = ends
    assert Document.decode(end).erased == any(each.erased for each in some)
    gone = frozenset[str]().union(*(each.erased_fields for each in some))
    assert Document.decode(end).erased_fields == gone, "which fields were erased by name outlasts the erasure of all of it"
    assert not gone & set(Document.decode(end)) and not (Document.decode(end).erased and set(Document.decode(end)))


@given(documents(), documents())
def test_field_by_field_is_the_same_as_all_at_once(left: Document, right: Document) -> None:
    whole = merge_documents(left, right)
    if right.erased or left.erased:
        return
    piecewise = Document.decode(left.encode())
    if right.erased_fields:
        piecewise.erase(right.erased_fields)
    for name in right:
        piecewise.merge_in(name, right.get(name))
    assert piecewise.encode() == whole.encode()


def event(*changes: RecordChange) -> Event:
    named = {"id": OTHER, "source": "/p/partner", "type": "note.added", "subject": "s", "time": "2026-11-25T00:00:00.000Z"}
    return Event(**named, partnership="p", registration=ROOT, stamp=Stamp(1, 0), data=EventData(records=changes))


def change(uid: str, parent: str | None, kind: str = "note", **fields: Register) -> RecordChange:
    return RecordChange(uid, kind, parent, ROOT, "partner", fields)


def test_an_event_in_its_erased_state_has_its_records_and_none_of_their_content() -> None:
    told = event(change(ROOT, None, "registration", contact=register(1), domain=register(2)), change(CHILD, ROOT, body=register(3)))
    whole = strip_event(told, {ROOT: WHOLE})
    assert whole is not None and b"secret" not in encode_event(whole) and decode_event(encode_event(whole)) == whole
    assert [each.erased for each in whole.data.records] == [True, True], "what is below it goes with it"
    field = strip_event(told, {ROOT: frozenset({"contact"})})
    assert field is not None and set(field.data.records[0].fields) == {"domain"}
    assert b"secret 1" not in encode_event(field) and b"secret 3" in encode_event(field)
    both = strip_event(told, {ROOT: WHOLE | {"contact"}})
    assert both is not None and [(each.erased, each.erased_fields) for each in both.data.records] == [(True, ("contact",)), (True, ())]
    assert strip_event(told, {OTHER: WHOLE}) is None
    assert strip_event(whole, {ROOT: WHOLE}) is None, "twice changes nothing"


def test_who_may_erase_what() -> None:
    assert not may_erase("policy", "partner", "vendor") and not may_erase("person", "partner", "vendor")
    assert may_erase("person", "partner", "partner") and may_erase("note", "vendor", "partner")
    assert may_erase_fields("registration", frozenset({"contact"}))
    assert not any(
        may_erase_fields(kind, names) for kind, names in (("registration", frozenset({"domain"})), ("note", frozenset({"body"})))
    )
    assert not may_erase_fields("registration", frozenset())


def test_erased_fields_are_canonical() -> None:
    one, other = Document(), Document()
    one.erase(["name"])
    one.erase(["contact"])
    other.erase(["contact", "name"])
    assert one.encode() == other.encode() == encode_value({"$erased": ["contact", "name"]})
