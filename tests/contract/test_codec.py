"""Whatever bytes arrive, the codec reads them or says Undecodable; what it writes, it reads back."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_schema.contract.codec import (
    Event,
    EventData,
    Outcome,
    RecordChange,
    Undecodable,
    decode_control,
    decode_event,
    encode_event,
)
from shared_schema.contract.envelope import CONTROL_TYPES, EVENT_BYTES_MAX, Envelope
from shared_schema.contract.identifiers import NAME_PATTERN
from shared_schema.contract.registers import COUNTER_MAX, BadToken, Dot, Register, Sibling, Stamp, decode_token
from shared_schema.sync.arrivals import read_number
from tests.contract.golden import SAMPLES, Sample
from tests.contract.hostile import hostile_variants

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
numbers = st.integers(-(2**53), 2**53)
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
uids = st.uuids().map(str)
names = st.from_regex(NAME_PATTERN.replace("$", r"\Z"))
stamps = st.builds(Stamp, st.integers(0, COUNTER_MAX), st.integers(0, COUNTER_MAX))
siblings = st.builds(Sibling, st.builds(Dot, texts, numbers), stamps, st.none() | uids, plain)
registers = st.builds(Register, st.dictionaries(texts, numbers, max_size=3), st.lists(siblings, max_size=3).map(tuple))
changes = st.builds(
    RecordChange,
    uids,
    names,
    st.none() | uids,
    st.none() | uids,
    st.sampled_from(("partner", "vendor")),
    st.dictionaries(names, registers, max_size=3),
)
events = st.builds(
    Event,
    id=uids,
    source=texts,
    type=texts,
    subject=texts,
    time=texts,
    partnership=texts,
    registration=st.none() | uids,
    stamp=stamps,
    causation=st.none() | uids,
    actor=st.none() | uids,
    data=st.builds(
        EventData, st.lists(changes, max_size=2).map(tuple), st.lists(st.builds(Outcome, uids, texts, texts), max_size=2).map(tuple)
    ),
)
settings.register_profile("codec", deadline=None, database=None, print_blob=True, max_examples=500)
codec = settings(settings.get_profile("codec"))
EVENT_ENDS, CONTROL_ENDS = ("read", "malformed", "newer_major", "oversized"), ("read", "malformed")


@codec
@given(events)
def test_an_event_is_its_bytes(event: Event) -> None:
    assert decode_event(encode_event(event)) == event


@codec
@given(st.binary(max_size=300), st.sampled_from(sorted(CONTROL_TYPES)))
def test_any_bytes_are_read_or_undecodable(payload: bytes, control: str) -> None:
    assert read_or_refuse(payload) in EVENT_ENDS
    assert read_control_or_refuse(control, payload) in CONTROL_ENDS


@codec
@given(st.sampled_from(SAMPLES), st.data())
def test_damaged_samples_are_read_or_undecodable(sample: object, data: st.DataObject) -> None:
    value = bytearray(sample.value)  # type: ignore[attr-defined]  # a Sample
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(value) - 1))
        damage = data.draw(st.sampled_from(("flip", "cut", "insert", "double")))
        if damage == "flip":
            value[place] ^= data.draw(st.integers(1, 255))
        elif damage == "cut" and place:
            del value[place:]
        elif damage == "insert":
            value[place:place] = data.draw(
                st.sampled_from((b"NaN", b"1e999", b"\xff\xfe", b'"\\ud800"', b"\x00", b"[" * 2_000, b'{"id":1,'))
            )
        else:
            value += value[place : place + 200]
    assert read_or_refuse(bytes(value)) in EVENT_ENDS
    assert read_control_or_refuse("sync.acknowledged", bytes(value)) in CONTROL_ENDS


def read_or_refuse(payload: bytes) -> str:
    """What became of it, by a word. Anything but Undecodable leaves through here and fails the test; what was read is valid by the
    models and reads back."""
    try:
        event = decode_event(payload)
    except Undecodable as error:
        return error.reason
    Envelope.model_validate_json(payload)
    return "read" if decode_event(encode_event(event)) == event else "reads back as something else"


def read_control_or_refuse(name: str, payload: bytes) -> str:
    try:
        control = decode_control(name, payload)
    except Undecodable as error:
        return error.reason
    return "read" if control.type == name else f"read as {control.type}"


def test_size_and_nothing() -> None:
    for payload, reason in ((None, "malformed"), (b"", "malformed"), (b"x" * (EVENT_BYTES_MAX + 1), "oversized")):
        try:
            decode_event(payload)
        except Undecodable as error:
            assert error.reason == reason
        else:
            raise AssertionError(f"{reason} was read")


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_the_codec_is_never_looser_than_the_models(sample: Sample) -> None:
    """Every leaf of every sample exchanged for something hostile: what the codec reads, the models validate."""
    for payload in hostile_variants(sample.value):
        if sample.type in CONTROL_TYPES:
            assert read_control_or_refuse(sample.type, payload) in CONTROL_ENDS
        else:
            assert read_or_refuse(payload) in EVENT_ENDS


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("registration",), "17"),
        (("causation",), "x" * 40),
        (("data", "records", 0, "uid"), "01998f3e-0000-7000-8000-00000000dead\n"),
        (("data", "records", 0, "kind"), "k" * 64),
        (("data", "records", 0, "kind"), "de\x00al"),
        (("data", "records", 0, "fields", "$erased"), {"context": {}, "siblings": []}),
        (("data", "records", 0, "fields", "f" * 64), {"context": {}, "siblings": []}),
        (("stamp", 0), 2**53 + 1),
        (("stamp", 1), -1),
        (("subject",), "s" * 1_001),
    ],
)
def test_what_no_store_could_hold_is_malformed(place: tuple[str | int, ...], value: object) -> None:
    changed = next(json.loads(sample.value) for sample in SAMPLES if sample.type == "deal.changed")
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(Undecodable) as caught:
        decode_event(json.dumps(changed).encode())
    assert caught.value.reason == "malformed"


@codec
@given(st.lists(st.tuples(st.sampled_from(("epoch", "sequence", "x")), st.binary(max_size=20)), max_size=4))
def test_headers_give_a_number_or_nothing(headers: list[tuple[str, bytes]]) -> None:
    number = read_number(dict(headers))
    assert number is None or (len(number[0]) == 16 and 0 < number[1] < 2**53)


@codec
@given(texts | st.binary(max_size=40).map(lambda raw: "s1." + raw.hex()))
def test_a_token_is_read_or_bad(token: str) -> None:
    try:
        context = decode_token(token)
    except BadToken as error:
        assert "token" in str(error)
    else:
        assert all(isinstance(counter, int) for counter in context.values())
