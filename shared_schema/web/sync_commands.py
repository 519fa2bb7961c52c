"""The commands about what does not go on by itself: dead letters, refusals, a stopped stream."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import format_time
from shared_schema.crm.problems import Invalid
from shared_schema.sync import dead_letters, drift, journal, partnerships, refusals, restoration, stops, verification
from shared_schema.sync.station import Station, Work
from shared_schema.web.terminal import ERRORS, As, Json, Terminal, fail, find_author, show

POLLS_PER_SECOND = 5
DIFFERENT, UNCOMPARED = 1, 2  # what `verify` exits with


def serve_sync(terminal: Terminal) -> None:
    serve_dead_letters(terminal)
    serve_verification(terminal)
    group = terminal.group("sync", "The streams, where they need a person.")

    @group.command("refused")
    def refused(partnership: str | None = None, after: int = 0, as_json: Json = False) -> None:
        """List what this node refused of the peers', with the reason; --after an id, for what follows a full page."""
        columns = ("id", "partnership", "uid", "field", "reason", "meaning")
        show(terminal.read(refusals.list_refused, partnership, after, refusals.PAGE_MAX), as_json, columns)

    @group.command("journal")
    def read_journal(partnership: str, after: int = 0, as_json: Json = False) -> None:
        """List what people and machines of this node did about a partnership, and who."""

        async def read(connection: AsyncConnection) -> list[dict[str, Any]]:
            return await journal.list_journal(connection, await partnerships.choose(connection, partnership), after)

        show(terminal.read(read), as_json, ("id", "what", "detail", "actor", "at_ms"))

    @group.command("resume")
    def resume(partnership: str, as_: As = None) -> None:
        """Let a stream go on that stopped because too much was parked."""

        async def command(work: Work) -> None:
            await partnerships.load(work.tx, partnership)
            await stops.resume(work, partnership)

        terminal.act(command, as_)

    @group.command("confirm-restore")
    def confirm_restore(as_: As = None) -> None:
        """Say that this store was put back from an older copy: the peers send their states, and what is ours in them is ours again."""
        for partnership in terminal.act(restoration.confirm, as_):
            print(partnership)


def serve_verification(terminal: Terminal) -> None:
    Wait = Annotated[int, typer.Option(min=1, help="For so many seconds, the peer's answers included.")]

    def run(partnership: str, wait: int, as_json: bool, as_: str | None, *, repair: bool) -> None:
        try:
            found = terminal.with_station(lambda station: run_verification(station, partnership, wait, as_, repair=repair))
        except ERRORS as error:
            fail(error, UNCOMPARED)
        conclude(found, as_json)

    @terminal.app.command("verify")
    def verify(partnership: str, wait: Wait = 60, as_json: Json = False, as_: As = None) -> None:
        """Compare both sides. Exits with 1 if records differ, with 2 if they could not be compared."""
        run(partnership, wait, as_json, as_, repair=False)

    @terminal.app.command("repair")
    def repair(partnership: str, wait: Wait = 60, as_json: Json = False, as_: As = None) -> None:
        """Compare both sides, send the states of what differs both ways, and compare again. Exits as `verify` does."""
        run(partnership, wait, as_json, as_, repair=True)


async def run_verification(station: Station, partnership: str, wait: int, email: str | None, *, repair: bool) -> dict[str, Any]:
    """Begin one and wait for its end, which the node's own process brings about; what was found by then, with all that differs."""
    async with station.working(await find_author(station, email)) as work:
        await partnerships.load(work.tx, partnership)
        await verification.request(work, partnership, repair=repair)
    for _ in range(wait * POLLS_PER_SECOND):
        await asyncio.sleep(1 / POLLS_PER_SECOND)
        async with station.database.reading() as connection:
            found = await verification.read_verification(connection, partnership, limit=1)
        if found["phase"] == "done":
            break
    async with station.database.reading() as connection:
        found["drift"] = [row async for row in drift.walk(connection, partnership)]
    return {**found, "silent": is_silent(station, found)}


def is_silent(station: Station, found: dict[str, Any]) -> bool:
    return station.clock.now_ms() - (found["peer_heard_ms"] or 0) > verification.HEARD_MS


def spread(drift: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One line per field that differs, or per record that one side lacks."""
    for row in drift:
        fields = row["fields"] or [{"field": None, "ours": None, "theirs": None}]
        named = {"record": row["uid"], "kind": row["kind"], "where": row["where"], "since": format_time(row["since_ms"])}
        yield from ({**named, **each} for each in fields)


def conclude(found: dict[str, Any], as_json: bool) -> None:
    """Print what was found; the exit code says it too."""
    if found["phase"] != "done":
        print(excuse(found), file=sys.stderr)
        raise typer.Exit(UNCOMPARED)
    show(found if as_json else list(spread(found["drift"])), as_json)
    if found["repaired"] and not as_json:
        print(f"repaired: {found['repaired']:,}")
    if found["refused"]:
        print(f"{found['refused']:,} more differ only in what was refused; see `sync refused`, here and there", file=sys.stderr)
    if found["busy"]:
        print(f"{found['busy']:,} records were busy at every look; verify again when less is going on", file=sys.stderr)
    raise typer.Exit(DIFFERENT if found["drift"] else UNCOMPARED if found["busy"] else 0)


def excuse(found: dict[str, Any]) -> str:
    """Why a verification has not ended yet, and what to do."""
    if found["silent"]:
        heard = format_time(found["peer_heard_ms"]) if found["peer_heard_ms"] else "ever"
        return f"no answer from the peer since {heard}; is its node running, and this one's?"
    if found["owed"]:
        return f"not ended yet: {found['owed']:,} states are still on their way; it goes on by itself, ask again or give a longer --wait"
    waits = f"{found['busy']:,} records were busy at the last look" if found["busy"] else "the peer was heard, and has not answered"
    return f"not ended yet: {waits}; it goes on by itself, ask again or give a longer --wait"


def serve_dead_letters(terminal: Terminal) -> None:
    group = terminal.group("dead-letters", "What could not be applied, kept whole.")

    @group.command("list")
    def list_(partnership: str | None = None, reason: str | None = None, after: int = 0, as_json: Json = False) -> None:
        """List dead letters with their reasons; --after an id, for what follows a full page."""
        columns = ("id", "partnership", "reason", "event", "waits_for", "topic", "record_offset")
        show(terminal.read(dead_letters.list_dead, partnership, reason, after, dead_letters.PAGE_MAX), as_json, columns)

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
