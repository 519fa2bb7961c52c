"""`vendor-node`: the vendor's command line, with its reps, invitations and similar requests."""

from typing import Annotated

import typer

from shared_schema.sync import partnerships
from shared_schema.sync.station import Work
from shared_schema.web.deletion_commands import serve_deletion
from shared_schema.web.registration_commands import serve_registrations
from shared_schema.web.sync_commands import serve_sync
from shared_schema.web.terminal import As, Json, Terminal, show
from shared_schema.web.trace_commands import serve_trace
from vendor_node import assigning, duplicates, invitations, reps
from vendor_node.partner_commands import serve_partners
from vendor_node.routes import ROUTERS
from vendor_node.spec import SPEC


def build() -> Terminal:
    """All commands of the vendor's node."""
    terminal = Terminal(SPEC, ROUTERS)
    serve_sync(terminal)
    serve_trace(terminal)
    serve_deletion(terminal)
    serve_partners(terminal)
    serve_reps(terminal)
    serve_vendor(terminal)
    return terminal


def main() -> None:
    build().main()


def serve_reps(terminal: Terminal) -> None:
    """The commands about reps."""
    group = terminal.group("reps", "Who gets the deals that partners register.")

    @group.command("list")
    def list_(as_json: Json = False) -> None:
        """List reps with their weight, cap and open deals."""
        found = [rep._asdict() for rep in terminal.read(reps.load_reps)]
        show(found, as_json, ("id", "name", "weight", "cap", "open_deals", "out_from", "out_until", "territories"))

    @group.command("add")
    def add(user_id: int, weight: int = 1, cap: int | None = None, territory: Annotated[list[str] | None, typer.Option()] = None) -> None:
        """Make a user a rep."""
        values = {"weight": weight, "cap": cap, "territories": territory or []}
        terminal.act(lambda work: reps.add_rep(work.tx, user_id, values))

    @group.command("out")
    def out(user_id: int, since: str, until: str | None = None) -> None:
        """Say from when until when (YYYY-MM-DD) a rep is out of office."""
        terminal.act(lambda work: reps.change_rep(work.tx, user_id, {"out_from": since, "out_until": until}))

    @group.command("accept")
    def accept(shared_deal_id: int, as_: As = None) -> None:
        """Take a registration on, as its rep."""
        terminal.act(lambda work: assigning.accept(work, shared_deal_id), as_)

    @group.command("assign")
    def assign(shared_deal_id: int, user_id: int) -> None:
        """Give a registration to a rep."""

        async def command(work: Work) -> None:
            await assigning.reassign(work, shared_deal_id, user_id)

        terminal.act(command)


def serve_vendor(terminal: Terminal) -> None:
    """The commands about registrations, with the vendor's own."""
    group = serve_registrations(terminal)

    @group.command("invite")
    def invite(
        deal_id: int,
        partnership: str,
        intro_note: Annotated[str, typer.Option(help="What the partner should know.")],
        confirmed: Annotated[bool, typer.Option("--confirmed", help="You have asked this partner, and it can work the deal.")] = False,
        contact: Annotated[int | None, typer.Option(help="Who will own it there: an id of `people`.")] = None,
        as_: As = None,
    ) -> None:
        """Bring a partner into a deal; prints the shared deal's id."""
        invitation = invitations.Invitation(intro_note, confirmed, contact)
        print(terminal.act(lambda work: invitations.bring_in(work, deal_id, partnership, invitation), as_))

    @group.command("people")
    def people(partnership: str, as_json: Json = False) -> None:
        """List the partner's people whom this partnership knows."""
        show(terminal.read(partnerships.list_people, partnership, "partner"), as_json, ("id", "name", "role", "active"))

    @group.command("similar")
    def similar(shared_deal_id: int, as_json: Json = False) -> None:
        """Show who else works on a registration's customer."""
        found = terminal.read(duplicates.read_similar, shared_deal_id)
        rows = [*found["registrations"], *({**each, "partner": "", "status": ""} for each in found["owned"])]
        show(found if as_json else rows, as_json, ("deal_id", "deal", "partner", "status", "owner", "amount", "currency"))


if __name__ == "__main__":
    main()
