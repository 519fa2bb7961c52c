"""The command that tells one event's whole life."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from shared_schema.contract.codec import format_time
from shared_schema.contract.identifiers import is_uid
from shared_schema.crm.problems import Invalid
from shared_schema.sync import trace
from shared_schema.sync.broker import KafkaBroker, Lines
from shared_schema.sync.settings import load_settings, secure
from shared_schema.sync.station import Station
from shared_schema.web.terminal import Json, Terminal


def serve_trace(terminal: Terminal) -> None:
    @terminal.app.command("trace")
    def trace_event(
        event: str,
        store_only: Annotated[bool, typer.Option("--store-only", help="Do not ask the broker what its topics still have.")] = False,
        as_json: Json = False,
    ) -> None:
        """Tell one event's whole life, on both sides; its id is in the audit trail and in the log."""
        if not is_uid(event):
            raise Invalid("event", f"takes an id such as 01998f50-0000-7000-8000-000000000002, and not {event!r}")
        show_trace(terminal.with_station(lambda station: run_trace(station, event, store_only=store_only)), as_json)


async def run_trace(station: Station, event: str, *, store_only: bool) -> dict[str, Any]:
    """From the store, and from the broker of the event's partnership, whichever that is."""
    if store_only:
        return await trace.trace(station.database, station.spec.side, event)
    settings = load_settings()
    logging.getLogger().addHandler(logging.NullHandler())
    lines = Lines(KafkaBroker(settings.kafka, secure(settings)), Path(settings.secrets) if settings.secrets else None)
    await lines.broker.start()
    try:
        return await trace.trace(station.database, station.spec.side, event, lines.find)
    finally:
        await lines.stop()


def show_trace(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    head = f"{found['type'] or 'event'} {found['event']}, made by the {found['made_by']}: {found['state']}"
    where = f"partnership {found['partnership']}" + (f", registration {found['registration']}" if found["registration"] else "")
    table = Table("what", "at (UTC)", "on whose clock", "known from", "details", box=None, header_style="bold")
    for step in found["steps"]:
        at = format_time(step["at_ms"]).replace("T", " ").rstrip("Z") if step["at_ms"] is not None else ""
        table.add_row(step["what"], at, step["side"], step["source"], step["detail"])
    Console().print(head, where, "", table, *(f"\n{note}" for note in found["notes"]), sep="\n", highlight=False)
