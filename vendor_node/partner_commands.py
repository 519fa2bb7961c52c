"""The vendor's commands about its partners."""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from shared_schema.crm.problems import Invalid
from shared_schema.sync import partnerships
from shared_schema.sync.security import write_secret
from shared_schema.sync.settings import BadSettings, load_settings
from shared_schema.sync.station import Author, Station
from shared_schema.sync.transport import Broker
from shared_schema.web.terminal import As, Json, Terminal, find_author, show
from vendor_node import partners

Address = Annotated[str | None, typer.Option("--broker", help="The broker's host:port as the partner reaches it.")]
Act = Callable[[Station, Author, Broker, str], Awaitable[partners.Done]]
STATUSES = {
    "suspend": ("suspended", "Shut a partner out until it is resumed; nothing is lost."),
    "resume": ("active", "Let a suspended partner in again."),
    "revoke": ("terminated", "End a partnership for good: its users, rights and connections."),
}


def serve_partners(terminal: Terminal) -> None:
    group = terminal.group("partners", "Who this company sells with.")

    @group.command("list")
    def list_(as_json: Json = False) -> None:
        """List partners."""
        show(terminal.read(partnerships.list_all), as_json, ("id", "peer_name", "status", "broker"))

    serve_bundles(terminal, group)

    @group.command("retire")
    def retire(partner: str, as_: As = None) -> None:
        """End all credentials of a partner but the newest, once it has joined with that one's bundle."""
        print(finish(act(terminal, partner, as_, partners.retire)))

    @group.command("topics")
    def topics(partner: str) -> None:
        """Create those of a partner's topics that are missing."""
        print(finish(act(terminal, partner, None, lambda station, _author, broker, which: partners.make_topics(station, broker, which))))

    for name, (status, told) in STATUSES.items():
        group.command(name, help=told)(make_change(terminal, status))


def serve_bundles(terminal: Terminal, group: typer.Typer) -> None:
    @group.command("invite")
    def invite(  # noqa: PLR0913, PLR0917  # the options of a command
        partner: str,
        out: Path,
        approval: Annotated[str, typer.Option(help="auto or manual")] = "auto",
        capacity: int = 100,
        preset: str = "default",
        broker: Address = None,
        as_: As = None,
    ) -> None:
        """Invite a partner: creates topics and a user, and writes the bundle to send to it, for its owner's eyes only."""
        organisation = load_settings().organisation
        if not organisation:
            raise BadSettings("DEALBRIDGE_ORGANISATION is not set: the partner sees it as your company's name")
        terms = {"approval": approval, "capacity": capacity, "preset": preset}

        async def run(station: Station, to: Broker) -> partners.Done:
            return await partners.invite(station, await find_author(station, as_), to, partners.Way(organisation, partner, broker), terms)

        print(finish(write_bundle(terminal, out, run)))

    @group.command("rotate")
    def rotate(partner: str, out: Path, broker: Address = None, as_: As = None) -> None:
        """Make a second credential and write its bundle; the one before works until `retire`."""

        async def run(station: Station, to: Broker) -> partners.Done:
            return await partners.rotate(station, await find_author(station, as_), to, await choose(station, partner), broker)

        print(finish(write_bundle(terminal, out, run)))


def write_bundle(terminal: Terminal, out: Path, run: Callable[[Station, Broker], Awaitable[partners.Done]]) -> partners.Done:
    """Do it only where its bundle can be kept: the password in it is shown this once."""
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise Invalid("out", f"takes a file that can be written, and {out} can not")
    done: partners.Done = terminal.with_broker(run)
    if done.bundle is not None:
        write_secret(out, json.dumps(done.bundle, indent=2) + "\n")
    return done


def make_change(terminal: Terminal, status: str) -> Callable[..., None]:
    def change(partner: str, as_: As = None) -> None:
        async def run(station: Station, author: Author, broker: Broker, partnership: str) -> partners.Done:
            return await partners.change_status(station, author, broker, partnership, status)

        print(finish(act(terminal, partner, as_, run)))

    return change


def act(terminal: Terminal, partner: str, email: str | None, command: Act) -> partners.Done:
    """A command about one partner, by name or id."""

    async def run(station: Station, broker: Broker) -> partners.Done:
        return await command(station, await find_author(station, email), broker, await choose(station, partner))

    done: partners.Done = terminal.with_broker(run)
    return done


async def choose(station: Station, partner: str) -> str:
    async with station.database.reading() as connection:
        return await partnerships.choose(connection, partner)


def finish(done: partners.Done) -> Any:
    """What is printed: the partnership's id. What is left to do goes beside it, and makes it a failure if it can not be left at that."""
    if done.remedy:
        print(f"dealbridge: {done.remedy}", file=sys.stderr)
    if not done.complete:
        raise typer.Exit(1)
    return done.partnership
