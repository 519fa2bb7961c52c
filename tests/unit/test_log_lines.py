"""A line of the log, readable and as JSON, and what a batch says."""

import json
import logging
import sys

import pytest

from shared_schema.sync.log_lines import JsonLines, TextLines, ids


def make_record(*, failed: bool = False) -> logging.LogRecord:
    try:
        raise ValueError("no")
    except ValueError:
        stack = sys.exc_info() if failed else None
    record = logging.LogRecord("shared_schema.sync.station", logging.INFO, "station.py", 1, "%s", ("deal.changed",), stack)
    record.created = 1_790_412_405.678
    record.__dict__ |= ids("acme", None, "01998f50-0000-7000-8000-000000000002", offset=7)
    return record


def test_a_readable_line_has_time_level_place_and_ids() -> None:
    line = TextLines().format(make_record())
    assert line == (
        "2026-09-26T08:46:45.678Z INFO shared_schema.sync.station: deal.changed"
        " partnership=acme event=01998f50-0000-7000-8000-000000000002 offset=7"
    )


def test_a_json_line_has_the_ids_as_members() -> None:
    line = json.loads(JsonLines().format(make_record()))
    assert line == {
        "ms": 1_790_412_405_678,
        "level": "info",
        "logger": "shared_schema.sync.station",
        "message": "deal.changed",
        "partnership": "acme",
        "event": "01998f50-0000-7000-8000-000000000002",
        "offset": 7,
    }


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()], ids=["text", "json"])
def test_a_stack_is_there_and_in_json_it_is_one_line_all_the_same(formatter: logging.Formatter) -> None:
    line = formatter.format(make_record(failed=True))
    assert "ValueError: no" in line
    assert ("\n" in line) == isinstance(formatter, TextLines)
