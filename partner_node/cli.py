"""`partner-node`: the partner's command line, with registering a deal."""

from typing import Annotated

import typer

from partner_node.registrations import convert_deal
from partner_node.routes import ROUTERS
from partner_node.spec import SPEC
from shared_schema.web.deletion_commands import serve_deletion
from shared_schema.web.sync_commands import serve_sync
from shared_schema.web.terminal import As, Terminal


def main() -> None:
    terminal = Terminal(SPEC, ROUTERS)
    serve_sync(terminal)
    serve_deletion(terminal)
    serve_registrations(terminal)
    terminal.main()


def serve_registrations(terminal: Terminal) -> None:
    """The commands about registrations."""
    group = terminal.group("registrations", "Deals that are registered with a vendor.")

    @group.command("convert")
    def convert(
        deal_id: int,
        intro_note: Annotated[str, typer.Option(help="How this company knows the customer.")],
        pain: Annotated[str, typer.Option(help="What hurts them.")],
        next_steps: Annotated[str, typer.Option(help="What should happen now.")],
        partnership: str | None = None,
        as_: As = None,
    ) -> None:
        """Register a deal that is here already; prints the shared deal's id."""
        details = {"intro_note": intro_note, "pain": pain, "next_steps": next_steps}
        print(terminal.act(lambda work: convert_deal(work, partnership, deal_id, details), as_))


if __name__ == "__main__":
    main()
