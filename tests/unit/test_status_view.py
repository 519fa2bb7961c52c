"""What a person who watches the status is told in a word, and what stands out."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from shared_schema.web.status_view import describe_ms, judge, render

IN_STEP: dict[str, Any] = {
    **{name: 0 for name in ("backlog", "unacknowledged", "gaps", "parked", "open_conflicts", "reactions", "refused", "refused_here")},
    **{name: 0 for name in ("drift", "owed", "held_outgoing", "held_incoming", "peer_backlog", "clock_skew_ms")},
    **{"stamp_ahead_ms": None, "stamp_ahead_ms_ago": None},
    **{name: None for name in ("oldest_ms", "stopped", "restoring_since_ms", "restoring_because", "trouble", "trouble_why")},
    **{"partnership": "acme", "peer": "Acme", "status": "active", "peer_heard_ms_ago": 1_200},
}
CASES = [
    ({}, "in step"),
    ({"unacknowledged": 2}, "on its way"),
    ({"peer_backlog": 2}, "on its way"),
    ({"unacknowledged": 2, "drift": 1}, "differs"),
    ({"gaps": 3}, "missing"),
    ({"peer_heard_ms_ago": None}, "never heard"),
    ({"peer_heard_ms_ago": 90_000, "drift": 1}, "silent"),
    ({"stopped": "too many", "gaps": 3}, "stopped"),
    ({"trouble": "down", "trouble_why": "it does not answer", "stopped": "x"}, "cut off"),
    ({"status": "suspended"}, "suspended"),
]


@pytest.mark.parametrize(("change", "word"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_the_worst_that_is_to_be_said_is_said(change: dict[str, Any], word: str) -> None:
    assert judge(IN_STEP | change).word == word


def test_both_directions_are_shown_in_eighty_columns_and_what_needs_somebody_comes_first() -> None:
    hurt = IN_STEP | {"unacknowledged": 12, "oldest_ms": 4_500, "parked": 7, "trouble": "down", "trouble_why": "look after the broker"}
    console = Console(width=80, record=True, file=StringIO())
    console.print(render("vendor", [IN_STEP, hurt | {"partnership": "globex", "peer": "Globex"}], 1_790_000_000_000))
    head, _, name, out, in_, why, _, well, *rest = console.export_text().rstrip().split("\n")
    assert head.startswith("vendor-node") and "UTC" in head
    assert "Globex (globex)  cut off" in name and "heard 1.2 s" in name
    assert out.startswith("  → ") and "unacked 12  oldest 4.5 s" in out
    assert in_.startswith("  ← ") and "parked 7" in in_
    assert why == "  look after the broker"
    assert "Acme (acme)  in step" in well and len(rest) == 2


def test_a_length_of_time_is_told_in_its_unit() -> None:
    assert [describe_ms(ms) for ms in (900, 61_000, 7_200_000, -172_800_000)] == ["0.9 s", "1.0 min", "2.0 h", "-2.0 d"]


@pytest.mark.parametrize(("ago_ms", "told"), [(60_000, True), (2 * 86_400_000, False)])
def test_a_clock_that_was_ahead_within_the_last_day_is_told(ago_ms: int, told: bool) -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(render("vendor", [IN_STEP | {"stamp_ahead_ms": 3_600_000, "stamp_ahead_ms_ago": ago_ms}], 1_790_000_000_000))
    assert ("its clock was 1.0 h ahead of ours, 1.0 min ago" in console.export_text()) == told
