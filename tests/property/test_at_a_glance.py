"""The quick ways of door, merge and codec decide as the slow ones do, for anything that a peer could send."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared_schema.contract.codec import Event, Undecodable, decode_event, decode_step_by_step
from shared_schema.contract.documents import Document
from shared_schema.contract.policy import PRESETS
from shared_schema.contract.refusal import Door, admits, refuse, refuse_field, refuse_fields
from shared_schema.contract.registers import COUNTER_MAX, Dot, Register, Sibling, Stamp, merge, merge_siblings, replaces
from tests.contract.golden import SAMPLES

NAMES = ("p-0000000000000001", "p-0000000000000002", "v-0000000000000001", "v-2", "x-0000000000000001", "p-")
PERSON = "01a0c450-6c00-71a4-af33-b1fbcf16676a"
counters = st.sampled_from((1, 2, 3, 4, 0, -1, COUNTER_MAX, COUNTER_MAX + 1))
names = st.sampled_from(NAMES)
dots = st.builds(Dot, names, counters)
siblings = st.builds(Sibling, dots, st.just(Stamp(1, 0)), st.sampled_from((None, PERSON, "nobody")), st.sampled_from(("a", "b")))
honest = st.builds(
    lambda name, last, more: Register({**more, name: last}, (Sibling(Dot(name, last), Stamp(1, 0), None, "a"),)),
    st.sampled_from(NAMES[:3]),
    st.integers(1, 4),
    st.dictionaries(st.sampled_from(NAMES[:3]), st.integers(1, 4)),
)
registers = honest | st.builds(Register, st.dictionaries(names, counters), st.lists(siblings, max_size=3).map(tuple))
doors = st.builds(
    Door,
    st.sampled_from(("partner", "vendor")),
    st.sampled_from(tuple(PRESETS.values())),
    st.sampled_from(("deal", "registration", "note", "quote", "of a newer version")),
    st.sampled_from(("partner", "vendor")),
)
fields = st.sampled_from(("name", "amount", "vendor_stage", "partner_stage", "decision", "body", "life", "new_field"))


@given(doors, fields, registers, registers)
def test_what_is_let_in_at_a_glance_is_let_in_by_the_rules(door: Door, name: str, stored: Register, incoming: Register) -> None:
    if admits(door, name, stored, incoming):
        assert refuse_field(door, name, stored, incoming) is None


@given(doors, st.dictionaries(fields, registers), st.dictionaries(fields, registers, max_size=3))
def test_fields_are_refused_as_by_the_rules(door: Door, stored: dict[str, Register], incoming: dict[str, Register]) -> None:
    assert refuse_fields(door, Document.of(stored), incoming) == refuse(door, Document.of(stored), Document.of(incoming))


@given(registers, registers)
def test_a_merge_at_a_glance_is_the_merge_by_the_rule(left: Register, right: Register) -> None:
    assert merge(left, right) == merge_siblings(left, right) or left == right
    if replaces(left, right):
        assert merge_siblings(left, right) == right != left


def test_the_ordinary_edit_is_decided_at_a_glance() -> None:
    ours, theirs = Dot(NAMES[2], 3), Dot(NAMES[0], 5)
    stored = Register({NAMES[2]: 3, NAMES[0]: 4}, (Sibling(ours, Stamp(1, 0), None, "a"),))
    incoming = Register({NAMES[2]: 3, NAMES[0]: 5}, (Sibling(theirs, Stamp(2, 0), PERSON, "b"),))
    assert admits(Door("vendor", PRESETS["default"], "deal", "partner"), "name", stored, incoming) and replaces(stored, incoming)


def outcome_of(read: Any, payload: bytes) -> Event | tuple[str, str | None]:
    try:
        event: Event = read(payload)
    except Undecodable as error:
        return error.reason, error.waits_for
    return event


PARTS: dict[str, Any] = {
    "dataschema": ("urn:dealbridge:event:1.0", "urn:dealbridge:event:1.7", "urn:dealbridge:event:2.0", "urn:other:1.0", 7, None),
    "id": (PERSON, "nobody", 1),
    "type": ("deal.changed", "Größer", 1),
    "specversion": ("1.0", "2.0"),
    "stranger": ("of a newer version", {"dataschema": "urn:dealbridge:event:1.0"}),
}


@given(st.sampled_from([each for each in SAMPLES if not each.type.startswith("sync.")]), st.data())
def test_an_event_is_read_at_a_glance_as_step_by_step(sample: Any, data: st.DataObject) -> None:
    event = json.loads(sample.value)
    for name in data.draw(st.sets(st.sampled_from(sorted(PARTS)))):
        event.pop(name, None)
        if data.draw(st.booleans()):
            event[name] = data.draw(st.sampled_from(PARTS[name]))
    payload = json.dumps(event, ensure_ascii=data.draw(st.booleans())).encode()[: data.draw(st.none() | st.integers(0, 400))]
    assert outcome_of(decode_event, payload) == outcome_of(decode_step_by_step, payload)
