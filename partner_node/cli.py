"""`partner-node`: the partner's command line, with joining a vendor, registering a deal and answering an invitation."""

from pathlib import Path
from typing import Annotated

import typer

from partner_node import invitations
from partner_node.registrations import convert_deal
from partner_node.routes import ROUTERS
from partner_node.spec import SPEC
from shared_schema.sync import joining, partnerships
from shared_schema.sync.settings import load_settings
from shared_schema.sync.station import Station
from shared_schema.web.deletion_commands import serve_deletion
from shared_schema.web.registration_commands import serve_registrations
from shared_schema.web.sync_commands import serve_sync
from shared_schema.web.terminal import As, Json, Terminal, find_author, read_file, show
from shared_schema.web.trace_commands import serve_trace


def build() -> Terminal:
    """All commands of the partner's node."""
    terminal = Terminal(SPEC, ROUTERS)
    serve_sync(terminal)
    serve_trace(terminal)
    serve_deletion(terminal)
    serve_partnerships(terminal)
    serve_partner(terminal)
    return terminal


def main() -> None:
    build().main()


def serve_partnerships(terminal: Terminal) -> None:
    """The commands about vendors."""
    group = terminal.group("partnerships", "Who this company sells with.")

    @group.command("list")
    def list_(as_json: Json = False) -> None:
        """List partnerships."""
        show(terminal.read(partnerships.list_all), as_json, ("id", "peer_name", "status", "broker"))

    @terminal.app.command("join")
    def join(bundle: Path, as_: As = None) -> None:
        """Join a vendor's partnership with the bundle that it sent; again, with a new bundle, to change the credential."""
        content = partnerships.read_bundle(read_file(bundle))
        secrets = load_settings().secrets

        async def run(station: Station) -> str:
            return await joining.join(station, await find_author(station, as_), Path(secrets) if secrets else None, content)

        print(terminal.with_station(run))


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
