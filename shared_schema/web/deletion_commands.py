"""The commands about deleting: of shared deals, the trash, erasures, and what the brake holds."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.problems import Invalid
from shared_schema.sync import erasing, held, partnerships, registrations, trash
from shared_schema.sync.eraser import finish_erasures
from shared_schema.sync.merging import merge_companies, merge_contacts
from shared_schema.sync.station import Station, Work
from shared_schema.web.terminal import As, Json, Terminal, find_author, show

Outgoing = Annotated[bool, typer.Option("--out", help="What this side would send.")]
Incoming = Annotated[bool, typer.Option("--in", help="What the peer sent.")]


def serve_deletion(terminal: Terminal) -> None:
    serve_shared_deals(terminal)
    serve_merging(terminal)
    serve_trash(terminal)
    serve_erasures(terminal)
    serve_brake(terminal)


def serve_shared_deals(terminal: Terminal) -> None:
    group = terminal.group("shared-deals", "Ending and bringing back what is shared.")

    async def delete_for_both(work: Work, shared_deal_id: int) -> Any:
        return await registrations.delete_for_both(work, shared_deal_id, None)

    commands: dict[str, tuple[Callable[[Work, int], Awaitable[Any]], str]] = {
        "delete-for-both": (delete_for_both, "Delete a deal on both sides."),
        "restore": (registrations.restore, "Restore a deleted or contested deal."),
        "delete-anyway": (registrations.delete_anyway, "Settle a contested deletion by deleting."),
        "unshare": (registrations.unshare, "Stop sharing, for good; both keep their copies."),
        "leave": (registrations.leave, "Delete a deal here only; the other side is told."),
        "come-back": (registrations.come_back, "Take `leave` back."),
    }
    for name, (command, told) in commands.items():
        group.command(name, help=told)(make_command(terminal, command))


def serve_merging(terminal: Terminal) -> None:
    """Companies and contacts; deals have theirs beside the other commands on deals."""
    for name, merge in (("companies", merge_companies), ("contacts", merge_contacts)):
        terminal.group(name, f"The CRM's {name}.").command("merge")(make_merge(terminal, merge))


def make_merge(terminal: Terminal, merge: Callable[[Work, int, int], Awaitable[int]]) -> Callable[..., None]:
    def run(survivor_id: int, taken_over: int, as_: As = None) -> None:
        """Take another one over: what hangs on it and what this one lacks; its id leads here afterwards."""
        print(terminal.act(lambda work: merge(work, survivor_id, taken_over), as_))

    return run


def make_command(terminal: Terminal, command: Callable[[Work, int], Awaitable[Any]]) -> Callable[..., None]:
    def run(shared_deal_id: int, as_: As = None) -> None:
        captured = terminal.act(lambda work: command(work, shared_deal_id), as_)
        show([{"field": each.field, "result": each.result} for each in captured.fields], False)

    return run


def serve_trash(terminal: Terminal) -> None:
    group = terminal.group("trash", "What was deleted and can be restored.")

    @group.command("list")
    def list_(as_json: Json = False) -> None:
        """List what can be restored, with what the deletion had not seen and what it hid."""

        async def run(station: Station) -> Any:
            async with station.database.reading() as connection:
                return await trash.list_trash(connection, station.keeping.trash_days, 0, trash.PAGE_MAX)

        show(terminal.with_station(run), as_json, ("id", "kind", "title", "deleted_side", "deleted_by", "shared_deal_id", "unseen"))

    @group.command("restore")
    def restore(trash_id: int, as_: As = None) -> None:
        """Restore something; notes and comments by their author (--as)."""
        print(terminal.act(lambda work: trash.restore(work, trash_id), as_))


def serve_erasures(terminal: Terminal) -> None:
    group = terminal.group("erasures", "Content erased on both sides, for ever.")

    @group.command("list")
    def list_(as_json: Json = False) -> None:
        """List erasures: where each stands, and by when it is gone everywhere."""

        async def run(station: Station) -> Any:
            async with station.database.reading() as connection:
                return await erasing.list_erasures(connection, station.keeping, 0, erasing.PAGE_MAX)

        show(terminal.with_station(run), as_json, ("id", "partnership", "kind", "uid", "fields", "origin", "state", "gone_by"))

    @group.command("deal")
    def deal(shared_deal_id: int, as_: As = None) -> None:
        """Erase a shared deal with all that is in it."""
        erase(terminal, lambda work: erasing.erase_deal(work, shared_deal_id), as_)

    @group.command("note")
    def note(note_id: int, as_: As = None) -> None:
        """Erase a shared note with its comments."""
        erase(terminal, lambda work: erasing.erase_text(work, "note", note_id), as_)

    @group.command("comment")
    def comment(comment_id: int, as_: As = None) -> None:
        """Erase a comment."""
        erase(terminal, lambda work: erasing.erase_text(work, "comment", comment_id), as_)

    @group.command("contact")
    def contact(contact_id: int, as_: As = None) -> None:
        """Erase a contact's personal data."""
        erase(terminal, lambda work: erasing.erase_contact(work, contact_id), as_)


def erase(terminal: Terminal, command: Callable[[Work], Awaitable[None]], email: str | None) -> None:
    """Erase, then rid the store's files of it at once, whether the node runs or not."""

    async def run(station: Station) -> int:
        async with station.working(await find_author(station, email)) as work:
            await command(work)
        return await finish_erasures(station)

    terminal.with_station(run)
    print("erased here; `erasures list` says by when it is gone everywhere")


def serve_brake(terminal: Terminal) -> None:
    group = terminal.group("brake", "Deletions, erasures and unsharings that are too many at once.")

    @group.command("status")
    def status(partnership: str | None = None, after: int = 0, as_json: Json = False) -> None:
        """List what is held by record, 200 a page, and how many there are in all; --after: the last id of the page before."""

        async def read(connection: AsyncConnection) -> dict[str, Any]:
            rows = await held.list_held(connection, partnership, after)
            return {"results": rows, "held": await held.count_held(connection, partnership)}

        found = terminal.read(read)
        show(found if as_json else found["results"], as_json, ("id", "partnership", "direction", "act", "kind", "uid", "registration"))
        for direction, count in found["held"].items():
            if count["events"] and not as_json:
                print(f"{direction}: {count['records']:,} records, in {count['events']:,} events with those that wait behind")

    @group.command("release")
    def release(partnership: str, outgoing: Outgoing = False, incoming: Incoming = False, as_: As = None) -> None:
        """Let go what is held now; what comes later is judged anew."""
        decide(terminal, partnership, (outgoing, incoming), "release", as_)

    @group.command("drop")
    def drop(partnership: str, outgoing: Outgoing = False, incoming: Incoming = False, as_: As = None) -> None:
        """Take outgoing deletions back; answer the sender of incoming ones with the records' state."""
        decide(terminal, partnership, (outgoing, incoming), "drop", as_)


def decide(terminal: Terminal, partnership: str, chosen: tuple[bool, bool], word: held.Word, email: str | None) -> None:
    """One direction at a time: which one must be said."""
    if chosen[0] == chosen[1]:
        raise Invalid("direction", "takes one of --out, for what this side would send, and --in, for what the peer sent")

    async def run(station: Station) -> dict[str, Any]:
        async with station.database.reading() as connection:
            await partnerships.load(connection, partnership)
        return await held.decide(station, await find_author(station, email), partnership, "out" if chosen[0] else "in", word)

    show([terminal.with_station(run)], False)
