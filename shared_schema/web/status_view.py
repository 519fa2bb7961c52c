"""How the sync stands, as a person on a server watches it: both directions of every partnership, once a second."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from rich.console import Group
from rich.live import Live
from rich.text import Text

from shared_schema.contract.codec import format_time
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.sync.station import Station
from shared_schema.sync.status import read_status

LOOK_S = 1.0
SILENT_MS = 60_000
AHEAD_SHOWN_MS = 86_400_000
URGENCY = ("red", "yellow", "green", "dim")
OUTGOING = {
    "waiting": "backlog",
    "unacked": "unacknowledged",
    "oldest": "oldest_ms",
    "held": "held_outgoing",
    "owed": "owed",
    "refused": "refused",
}
INCOMING = {"waiting": "peer_backlog", "missing": "gaps", "parked": "parked", "held": "held_incoming", "refused": "refused_here"}
BOTH = {"heard": "peer_heard_ms_ago", "clock": "clock_skew_ms", "conflicts": "open_conflicts", "differ": "drift"}
WRONG = {"held_outgoing", "held_incoming", "refused", "refused_here", "gaps", "parked", "drift"}


class Standing(NamedTuple):
    """In a word how a partnership stands, its colour, and why."""

    word: str
    style: str
    why: str


def judge(row: Mapping[str, Any]) -> Standing:
    """The worst that is to be said; in step is who has nothing on its way, nothing missing, and heard the other lately."""
    heard_ms = row["peer_heard_ms_ago"]
    cases = (
        (row["trouble"], "cut off", "red", row["trouble_why"]),
        (row["stopped"], "stopped", "red", row["stopped"]),
        (row["restoring_since_ms"], "restoring", "red", row["restoring_because"]),
        (row["status"] not in ("active", "invited"), row["status"], "dim", ""),
        (heard_ms is None, "never heard", "yellow", ""),
        (heard_ms is not None and heard_ms > SILENT_MS, "silent", "red", ""),
        (row["drift"], "differs", "red", "`verify` names the records"),
        (row["gaps"], "missing", "red", ""),
        (row["owed"], "owes states", "yellow", ""),
        (row["unacknowledged"] or row["peer_backlog"] or row["reactions"], "on its way", "yellow", ""),
    )
    found = next((Standing(str(word), style, str(why or "")) for wrong, word, style, why in cases if wrong), None)
    return found or Standing("in step", "green", "")


def render(side: str, rows: Sequence[Mapping[str, Any]], now_ms: int) -> Group:
    """The whole view, what needs somebody first."""
    head = Text(f"{side}-node   {format_time(now_ms)[:19].replace('T', ' ')} UTC", "bold")
    judged = sorted(((judge(row), row) for row in rows), key=lambda pair: (URGENCY.index(pair[0].style), pair[1]["partnership"]))
    lines = [line for standing, row in judged for line in render_partnership(standing, row)]
    return Group(head, *(lines or [Text("no partnership yet")]))


def render_partnership(standing: Standing, row: Mapping[str, Any]) -> list[Text]:
    """Its name and how it stands, one line for each direction, and why it does not go on, if it does not."""
    lines = [
        Text.assemble("\n", (row["peer"], "bold"), f" ({row['partnership']})  ", (standing.word, standing.style), "  ", tell(row, BOTH)),
        Text.assemble("  → ", tell(row, OUTGOING)),
        Text.assemble("  ← ", tell(row, INCOMING)),
    ]
    if row["stamp_ahead_ms"] is not None and row["stamp_ahead_ms_ago"] < AHEAD_SHOWN_MS:
        ahead, ago = describe_ms(row["stamp_ahead_ms"]), describe_ms(row["stamp_ahead_ms_ago"])
        lines.append(Text(f"  its clock was {ahead} ahead of ours, {ago} ago", "yellow"))
    return [*lines, Text(f"  {standing.why}", standing.style)] if standing.why else lines


def tell(row: Mapping[str, Any], figures: Mapping[str, str]) -> Text:
    return Text("  ").join(Text.assemble((f"{name} ", "dim"), show_figure(field, row[field])) for name, field in figures.items())


def show_figure(name: str, value: Any) -> Text:
    """A count, or a time in words; what should be nothing and is not stands out."""
    if value is None:
        return Text("-", "dim")
    if "_ms" in name:
        return Text(describe_ms(value))
    style = "dim" if not value else "bold red" if name in WRONG else "bold"
    return Text(f"{value:,}", style)


def describe_ms(ms: int) -> str:
    """A length of time in its largest fitting unit."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if abs(ms) >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms / 1000:.1f} s"


async def watch_status(station: Station) -> None:
    """Until Ctrl-C. A store that is away for a while is waited for."""
    with Live(Text("…"), refresh_per_second=4, screen=False) as live, suppress(asyncio.CancelledError):
        while True:
            now_ms = station.clock.now_ms()
            try:
                async with station.database.reading() as connection:
                    live.update(render(station.spec.side, await read_status(connection, now_ms), now_ms), refresh=True)
            except DatabaseUnavailable as error:
                live.update(Text(f"the store can not be read: {error}", "red"), refresh=True)
            await asyncio.sleep(LOOK_S)
