"""The committed export is what the contract says, and the golden samples are what the export says."""

import json

import pytest
from jsonschema_rs import Draft202012Validator, meta

from shared_schema.contract.envelope import CONTROL_TYPES, EVENT_TYPES
from shared_schema.contract.export import DIRECTORY, render
from tests.contract.golden import SAMPLES, Sample


def test_the_committed_export_is_not_stale() -> None:
    committed = {path.name: path.read_text() for path in DIRECTORY.iterdir()}
    assert committed == render(), "run `make schemas` and commit what it writes"


def test_every_type_has_a_schema_and_a_golden_sample() -> None:
    types = {*EVENT_TYPES, *CONTROL_TYPES}
    assert {name.removesuffix(".json") for name in render()} == types | {"asyncapi"}
    assert {sample.type for sample in SAMPLES} == types


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_golden_sample_fits_its_schema(sample: Sample) -> None:
    schema = json.loads(render()[f"{sample.type}.json"])
    assert meta.is_valid(schema)
    Draft202012Validator(schema).validate(json.loads(sample.value))


def test_the_schema_finds_what_is_wrong() -> None:
    sample = next(each for each in SAMPLES if each.type == "deal.changed")
    validator = Draft202012Validator(json.loads(render()["deal.changed.json"]))
    for name, value in (("id", "17"), ("type", "deal.shared"), ("stamp", "now"), ("data", {"records": [{}]})):
        assert list(validator.iter_errors(json.loads(sample.value) | {name: value})), name


def test_asyncapi_refers_to_what_is_there() -> None:
    files = render()
    document = json.loads(files["asyncapi.json"])
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
    for channel in document["channels"].values():
        assert {each["$ref"].removeprefix("#/components/messages/") for each in channel["messages"].values()} == {
            *document["components"]["messages"]
        }
    for message in document["components"]["messages"].values():
        assert message["payload"]["schema"]["$ref"].removeprefix("./") in files
