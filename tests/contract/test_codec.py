"""Whatever bytes arrive, the codec reads them or says Undecodable; what it writes, it reads back."""

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
    read_headers,
)
from shared_schema.contract.envelope import CONTROL_TYPES, EVENT_BYTES_MAX
from shared_schema.contract.registers import BadToken, Dot, Register, Sibling, Stamp, decode_token
from shared_schema.sync.arrivals import read_number
from tests.contract.golden import SAMPLES

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
numbers = st.integers(-(2**53), 2**53)
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
uids = st.uuids().map(str)
siblings = st.builds(Sibling, st.builds(Dot, texts, numbers), st.builds(Stamp, numbers, numbers), st.none() | uids, plain)
registers = st.builds(Register, st.dictionaries(texts, numbers, max_size=3), st.lists(siblings, max_size=3).map(tuple))
changes = st.builds(
    RecordChange,
    uids,
    texts,
    st.none() | uids,
    st.none() | uids,
    st.sampled_from(("partner", "vendor")),
    st.dictionaries(texts, registers, max_size=3),
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
    stamp=st.builds(Stamp, numbers, numbers),
    causation=st.none() | uids,
    actor=st.none() | uids,
    data=st.builds(
        EventData, st.lists(changes, max_size=2).map(tuple), st.lists(st.builds(Outcome, uids, texts, texts), max_size=2).map(tuple)
    ),
)
settings.register_profile("codec", deadline=None, database=None, print_blob=True, max_examples=300)
codec = settings(settings.get_profile("codec"))


@codec
@given(events)
def test_an_event_is_its_bytes(event: Event) -> None:
    assert decode_event(encode_event(event)) == event


@codec
@given(st.binary(max_size=300), st.sampled_from(sorted(CONTROL_TYPES)))
def test_any_bytes_are_read_or_undecodable(payload: bytes, control: str) -> None:
    read_or_refuse(payload)
    read_control_or_refuse(control, payload)


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
    read_or_refuse(bytes(value))
    read_control_or_refuse("sync.acknowledged", bytes(value))


def read_or_refuse(payload: bytes) -> None:
    """Anything but Undecodable leaves through here and fails the test; what was read can be written and read again."""
    try:
        event = decode_event(payload)
    except Undecodable as error:
        assert error.reason in ("malformed", "newer_major", "oversized")
    else:
        assert decode_event(encode_event(event)) == event


def read_control_or_refuse(name: str, payload: bytes) -> None:
    try:
        control = decode_control(name, payload)
    except Undecodable as error:
        assert error.reason == "malformed"
    else:
        assert control.type == name


def test_size_and_nothing() -> None:
    for payload, reason in ((None, "malformed"), (b"", "malformed"), (b"x" * (EVENT_BYTES_MAX + 1), "oversized")):
        try:
            decode_event(payload)
        except Undecodable as error:
            assert error.reason == reason
        else:
            raise AssertionError(f"{reason} was read")


@codec
@given(st.lists(st.tuples(st.sampled_from(("epoch", "sequence", "x")), st.binary(max_size=20)), max_size=4))
def test_headers_give_a_number_or_nothing(headers: list[tuple[str, bytes]]) -> None:
    number = read_number(read_headers(headers))
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
