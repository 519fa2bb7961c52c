"""Both readers of the wire, the models that define it and the fast codec, held to the same golden samples."""

import json
from typing import Any

import pytest

from shared_schema.contract.codec import (
    HEADER_CONTROL,
    Event,
    Undecodable,
    decode_control,
    decode_event,
    encode_control,
    encode_event,
    to_plain,
)
from shared_schema.contract.documents import Document
from shared_schema.contract.envelope import CONTROL_TYPES, CONTROLS, EVENT_TYPES, Envelope
from shared_schema.contract.life import is_deletion, seen_of
from shared_schema.contract.policy import Policy
from shared_schema.contract.records import KINDS, is_valid
from shared_schema.contract.refusal import Door, refuse
from shared_schema.contract.registers import Register
from shared_schema.contract.topics import other
from shared_schema.sync.arrivals import sort_arrivals
from shared_schema.sync.transport import Received
from tests.contract.golden import SAMPLES, Sample

EVENTS = [sample for sample in SAMPLES if sample.type in EVENT_TYPES]
CONTROL_SAMPLES = [sample for sample in SAMPLES if sample.type in CONTROL_TYPES]
CHANGED = next(sample for sample in EVENTS if sample.type == "deal.changed")


def without_defaults(value: Any) -> Any:
    """What a reader leaves out where it is nothing, left out of both."""
    if isinstance(value, dict):
        return {name: without_defaults(part) for name, part in value.items() if part not in (None, [], ())}
    return [without_defaults(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("sample", EVENTS, ids=str)
def test_an_event_reads_the_same_by_both_and_writes_back_to_its_bytes(sample: Sample) -> None:
    event = decode_event(sample.value)
    assert event.type == sample.type
    assert encode_event(event) == sample.value
    model = Envelope.model_validate_json(sample.value)
    assert without_defaults(model.model_dump()) == without_defaults(to_plain(event))


@pytest.mark.parametrize("sample", CONTROL_SAMPLES, ids=str)
def test_a_control_message_writes_back_to_its_bytes(sample: Sample) -> None:
    control = decode_control(sample.type, sample.value)
    assert type(control) is CONTROLS[sample.type] and control.type == sample.type
    assert encode_control(control) == sample.value
    assert dict(sample.headers) == {HEADER_CONTROL: sample.type.encode()}


def test_a_topic_of_all_samples_is_sorted_without_a_rest() -> None:
    batch = [Received("topic", place, 0, None, sample.value, sample.headers) for place, sample in enumerate(SAMPLES)]
    arrivals = sort_arrivals("initech-acme", batch)
    assert (len(arrivals.events), len(arrivals.controls), arrivals.unreadable) == (len(EVENTS), len(CONTROL_SAMPLES), [])


@pytest.mark.parametrize("sample", EVENTS, ids=str)
def test_what_the_samples_say_is_valid_and_refused_by_nobody(sample: Sample) -> None:
    event = decode_event(sample.value)
    sender = "partner" if event.source.endswith("partner") else "vendor"
    for change in event.data.records:
        assert set(change.fields) <= {*KINDS[change.kind].fields, "life"}
        assert KINDS[change.kind].made_by in (None, change.side)
        for name, register in change.fields.items():
            assert all(is_valid(change.kind, name, sibling.value) for sibling in register.siblings)
        known = dict(change.fields)
        contexts = {name: each.context for name, each in known.items()}
        for deletion in filter(is_deletion, known["life"].siblings if "life" in known else ()):
            contexts |= seen_of(deletion)
        own = {name: Register({key: n for key, n in each.items() if key[0] != sender[0]}, ()) for name, each in contexts.items()}
        door = Door(other(sender), Policy(), change.kind, change.side)
        assert refuse(door, Document.of(own), Document.of(known)) == {}


def alter(sample: Sample, **attributes: Any) -> bytes:
    return json.dumps(json.loads(sample.value) | attributes).encode()


def test_a_newer_minor_version_is_read_and_what_it_adds_survives() -> None:
    """Unknown types, kinds, fields and values are carried as they are; an unknown attribute of the envelope is the model's to keep."""
    whole = json.loads(CHANGED.value)
    record = whole["data"]["records"][0]
    added = {"context": {"p-0000000000000001": 4}, "siblings": [dict(next(iter(record["fields"].values()))["siblings"][0])]}
    added["siblings"][0] |= {"dot": ["p-0000000000000001", 4], "value": {"shape": "of tomorrow", "sizes": [1, 2.5, None]}}
    newer = record | {"kind": "hologram", "fields": {**record["fields"], "colour": added}}
    data = {"records": [newer], "outcomes": [{"event": record["uid"], "outcome": "postponed", "reason": "moon"}]}
    payload = alter(CHANGED, type="deal.levitated", dataschema="urn:dealbridge:event:1.9", mood="good", data=data)
    event = decode_event(payload)
    (change,) = event.data.records
    assert (event.type, change.kind, event.data.outcomes[0].outcome) == ("deal.levitated", "hologram", "postponed")
    stored = Document.of(change.fields)
    assert json.loads(Document.decode(stored.encode()).encode()) == newer["fields"]
    assert decode_event(encode_event(event)) == event
    assert json.loads(Envelope.model_validate_json(payload).model_dump_json())["mood"] == "good"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"dataschema": "urn:dealbridge:event:2.0"}, "newer_major"),
        ({"dataschema": "urn:dealbridge:event:2.0", "data": "of another shape"}, "newer_major"),
        ({"dataschema": "urn:dealbridge:event:latest"}, "malformed"),
        ({"dataschema": "something else"}, "malformed"),
        ({"id": "17"}, "malformed"),
        ({"id": "0190A000-0000-7000-8000-000000000001"}, "malformed"),
        ({"stamp": ["soon", 0]}, "malformed"),
        ({"data": {"records": [{"uid": "nobody"}]}}, "malformed"),
        ({"data": None}, "malformed"),
    ],
)
def test_what_can_not_be_read_says_why(attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Undecodable) as caught:
        decode_event(alter(CHANGED, **attributes))
    assert caught.value.reason == reason


def test_the_models_and_the_codec_know_the_same_attributes() -> None:
    assert set(Envelope.model_fields) == set(Event.__struct_fields__)
