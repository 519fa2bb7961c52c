"""`make schemas`: the wire as JSON Schema, one file per event and control message, and as an AsyncAPI document."""

import json
from pathlib import Path
from typing import Any

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH, HEADER_SEQUENCE
from shared_schema.contract.envelope import CONTROL_TYPES, CONTROLS, EVENT_TYPES, VERSION, Envelope
from shared_schema.contract.records import KINDS

DIRECTORY = Path(__file__).with_name("schemas")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]
SIDES = ("partner", "vendor")


def render() -> dict[str, str]:
    """Every file of the export by its name: the same bytes for the same contract."""
    schemas = {f"{name}.json": describe_event(name, meaning) for name, meaning in EVENT_TYPES.items()}
    schemas |= {f"{name}.json": describe_control(name, meaning) for name, meaning in CONTROL_TYPES.items()}
    return {name: write_json(schema) for name, schema in {**schemas, "asyncapi.json": describe_streams()}.items()}


def write_json(value: Json) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def describe_event(name: str, meaning: str) -> Json:
    """An event's schema: the envelope with its one type, and the kinds whose fields this version knows."""
    schema = Envelope.model_json_schema()
    schema["properties"]["type"] = {"const": name, "description": meaning}
    schema["$defs"]["RecordModel"]["properties"]["fields"]["description"] = "By kind: " + "; ".join(
        f"{kind}: {', '.join(sorted([*known.fields, 'life']))}" for kind, known in sorted(KINDS.items())
    )
    return {"$schema": DIALECT, "$id": f"urn:dealbridge:schema:{VERSION}:{name}", **schema, "title": name, "description": meaning}


def describe_control(name: str, meaning: str) -> Json:
    schema = CONTROLS[name].model_json_schema()
    return {"$schema": DIALECT, "$id": f"urn:dealbridge:schema:{VERSION}:{name}", **schema, "title": name, "description": meaning}


def describe_streams() -> Json:
    """The AsyncAPI 3.0 document: two topics of records per partnership, one from each side."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Dealbridge",
            "version": VERSION,
            "description": "Two nodes keep shared deals the same. Events are numbered by the headers epoch and sequence; control messages "
            "carry the header control instead. A receiver takes any order, any duplicate, and asks for what is missing.",
        },
        "defaultContentType": "application/json",
        "channels": {f"from-{side}": describe_channel(side) for side in SIDES},
        "operations": {f"{act}-{side}": describe_operation(act, side) for side in SIDES for act in ("send", "receive")},
        "components": {"messages": {name: describe_message(name) for name in (*EVENT_TYPES, *CONTROL_TYPES)}},
    }


def describe_channel(side: str) -> Json:
    return {
        "address": f"dealbridge.{{partnership}}.from-{side}",
        "description": f"Written by the {side}'s node only; one partition.",
        "parameters": {"partnership": {"description": "Lower-case letters, digits and hyphens, at most 63."}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (*EVENT_TYPES, *CONTROL_TYPES)},
        "bindings": {"kafka": {"partitions": 1}},
    }


def describe_operation(act: str, side: str) -> Json:
    """Each side sends on its own channel and receives on the other's."""
    channel = side if act == "send" else SIDES[1 - SIDES.index(side)]
    summary = f"The {side}'s node {'publishes its outbox' if act == 'send' else 'applies what the other side sent'}."
    return {"action": act, "channel": {"$ref": f"#/channels/from-{channel}"}, "summary": summary}


def describe_message(name: str) -> Json:
    meaning = EVENT_TYPES.get(name) or CONTROL_TYPES[name]
    payload = {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": {"$ref": f"./{name}.json"}}
    return {"name": name, "summary": meaning, "headers": describe_headers(name), "payload": payload}


def describe_headers(name: str) -> Json:
    if name in CONTROL_TYPES:
        return {"type": "object", "required": [HEADER_CONTROL], "properties": {HEADER_CONTROL: {"const": name}}}
    number = {"type": "string", "pattern": "^[0-9]{1,16}$", "description": "Counts from 1 within its epoch."}
    epoch = {"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "One life of a relay."}
    properties = {HEADER_EPOCH: epoch, HEADER_SEQUENCE: number}
    return {"type": "object", "required": [HEADER_EPOCH, HEADER_SEQUENCE], "properties": properties}


def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    files = render()
    for stale in {path.name for path in DIRECTORY.glob("*.json")} - set(files):
        (DIRECTORY / stale).unlink()
    for name, text in files.items():
        (DIRECTORY / name).write_text(text)
    print(f"{len(files)} files in {DIRECTORY}")


if __name__ == "__main__":
    main()
