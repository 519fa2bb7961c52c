"""`partner-node`: the partner's command line, with registering a deal and answering an invitation."""

from typing import Annotated

import typer

from partner_node import invitations
from partner_node.registrations import convert_deal
from partner_node.routes import ROUTERS
from partner_node.spec import SPEC
from shared_schema.web.registration_commands import serve_registrations
from shared_schema.web.sync_commands import serve_sync
from shared_schema.web.terminal import As, Terminal


def main() -> None:
    terminal = Terminal(SPEC, ROUTERS)
    serve_sync(terminal)
    serve_partner(terminal)
    terminal.main()


def serve_partner(terminal: Terminal) -> None:
    """The commands about registrations, with the partner's own."""
    group = serve_registrations(terminal)

    @group.command("answer")
    def answer(shared_deal_id: int, said: str, reason: str | None = None, as_: As = None) -> None:
        """Answer a vendor's invitation: accepted or declined."""
        terminal.act(lambda work: invitations.answer(work, shared_deal_id, said, reason), as_)

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
