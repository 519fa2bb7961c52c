"""The commands about what does not go on by itself: dead letters, refusals, a stopped stream."""

from typing import Annotated

import typer

from shared_schema.crm.problems import Invalid
from shared_schema.sync import dead_letters, partnerships, refusals, stops
from shared_schema.sync.station import Station, Work
from shared_schema.web.terminal import As, Json, Terminal, find_author, show


def serve_sync(terminal: Terminal) -> None:
    serve_dead_letters(terminal)
    group = terminal.group("sync", "The streams, where they need a person.")

    @group.command("refused")
    def refused(partnership: str | None = None, as_json: Json = False) -> None:
        """List what this node refused of the peers', with the reason."""
        columns = ("partnership", "uid", "field", "reason", "meaning")
        show(terminal.read(refusals.list_refused, partnership, 0, refusals.PAGE_MAX), as_json, columns)

    @group.command("resume")
    def resume(partnership: str, as_: As = None) -> None:
        """Let a stream go on that stopped because too much was parked."""

        async def command(work: Work) -> None:
            await partnerships.load(work.tx, partnership)
            await stops.resume(work, partnership)

        terminal.act(command, as_)


def serve_dead_letters(terminal: Terminal) -> None:
    group = terminal.group("dead-letters", "What could not be applied, kept whole.")

    @group.command("list")
    def list_(partnership: str | None = None, reason: str | None = None, as_json: Json = False) -> None:
        """List dead letters with their reasons."""
        columns = ("id", "partnership", "reason", "event", "waits_for", "topic", "record_offset")
        show(terminal.read(dead_letters.list_dead, partnership, reason, 0, dead_letters.PAGE_MAX), as_json, columns)

    @group.command("show")
    def show_(letter_id: int) -> None:
        """Show a dead letter whole, as JSON: headers, bytes, reason and stack."""
        show(terminal.read(dead_letters.load_dead, letter_id), True)

    @group.command("replay")
    def replay(
        letter_ids: Annotated[list[int] | None, typer.Argument()] = None,
        partnership: str | None = None,
        reason: str | None = None,
        every: Annotated[bool, typer.Option("--all", help="All that there are.")] = False,
        as_: As = None,
    ) -> None:
        """Try dead letters again: by id, by --reason, or --all."""
        if not (letter_ids or reason or every):
            raise Invalid("ids", "may not be empty; name ids, or --reason, or --all")

        async def run(station: Station) -> list[dead_letters.Replayed]:
            async with station.database.reading() as connection:
                letters = letter_ids or await dead_letters.find_all(connection, partnership, reason)
            return await dead_letters.replay(station, await find_author(station, as_), letters)

        show([each._asdict() for each in terminal.with_station(run)], False)

    @group.command("discard")
    def discard(letter_id: int, reason: Annotated[str, typer.Option(help="Why; the sender is told.")], as_: As = None) -> None:
        """Discard a dead letter for good."""
        terminal.act(lambda work: dead_letters.discard(work, letter_id, reason), as_)
