"""`vendor-node`: the vendor's command line, with its reps."""

from typing import Annotated

import typer

from shared_schema.sync.station import Work
from shared_schema.web.deletion_commands import serve_deletion
from shared_schema.web.sync_commands import serve_sync
from shared_schema.web.terminal import As, Json, Terminal, show
from vendor_node import assigning, reps
from vendor_node.partner_commands import serve_partners
from vendor_node.routes import ROUTERS
from vendor_node.spec import SPEC


def main() -> None:
    terminal = Terminal(SPEC, ROUTERS)
    serve_sync(terminal)
    serve_deletion(terminal)
    serve_partners(terminal)
    serve_reps(terminal)
    terminal.main()


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


if __name__ == "__main__":
    main()
