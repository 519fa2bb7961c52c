"""What `verify` and `repair` say at their end, and what they exit with: 1 only for a difference, 2 where nothing could be compared."""

import json
from typing import Any

import pytest
import typer

from shared_schema.web.sync_commands import conclude

DRIFT = {"uid": "u", "kind": "note", "registration": "r", "where": "only here", "since_ms": 0, "fields": []}
COUNTS = dict.fromkeys(("repaired", "busy", "owed", "refused", "peer_heard_ms"), 0)
FOUND: dict[str, Any] = {"phase": "done", **COUNTS, "silent": False, "drift": []}


@pytest.mark.parametrize(
    ("found", "code", "says"),
    [
        ({}, 0, ""),
        ({"repaired": 3}, 0, ""),
        ({"refused": 2}, 0, "2 more differ only in what was refused"),
        ({"drift": [DRIFT]}, 1, ""),
        ({"drift": [DRIFT], "busy": 4}, 1, "4 records were busy at every look"),
        ({"busy": 4}, 2, "4 records were busy at every look"),
        ({"phase": "first", "silent": True}, 2, "no answer from the peer since ever"),
        ({"phase": "first", "silent": True, "peer_heard_ms": 1}, 2, "no answer from the peer since 1970-01-01"),
        ({"phase": "first", "owed": 7}, 2, "7 states are still on their way"),
        ({"phase": "second", "busy": 5}, 2, "5 records were busy at the last look"),
        ({"phase": "first"}, 2, "the peer was heard, and has not answered"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_code_and_the_words_are_those_of_what_was_found(
    found: dict[str, Any], code: int, says: str, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        conclude({**FOUND, **found}, as_json)
    told = capsys.readouterr()
    assert ended.value.exit_code == code
    assert says in told.err and bool(told.err) == bool(says)
    if as_json and told.out:
        assert json.loads(told.out) == {**FOUND, **found}
