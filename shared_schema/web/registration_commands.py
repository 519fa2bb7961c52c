"""The commands about a deal's registrations that both sides have: what each says beside the deal, saving to some of them, taking over."""

from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.records import DEAL_FIELDS
from shared_schema.contract.registers import Side
from shared_schema.crm.deals import load_deal
from shared_schema.crm.problems import Invalid
from shared_schema.sync.beside import read_beside
from shared_schema.sync.deals import Saved, save_deal, take_over
from shared_schema.web.terminal import As, Json, Terminal, read_value, show

To = Annotated[list[int] | None, typer.Option("--to", help="A shared deal that it goes to; may be given several times.")]
Row = dict[str, Any]


def serve_registrations(terminal: Terminal) -> typer.Typer:
    """The group `registrations`, to which each side adds its own."""
    group = terminal.group("registrations", "A deal's registrations: with whom it is shared, and what each of them says.")

    @group.command("compare")
    def compare(deal_id: int, as_json: Json = False) -> None:
        """Show a deal's shared fields, and what each registration says beside them."""
        found = terminal.read(read_comparison, terminal.spec.side, deal_id)
        show(found if as_json else list_comparison(*found), as_json)

    @group.command("save")
    def save(
        deal_id: int,
        values: list[str],
        to: To = None,
        mine: Annotated[bool, typer.Option("--mine", help="Keep it on this side.")] = False,
        as_: As = None,
    ) -> None:
        """Save a deal: FIELD=VALUE …. It goes to the registrations named by --to; without any to those that showed what the deal had."""
        if to and mine:
            raise Invalid("to", "and --mine exclude each other; name the registrations, or none")
        asked = dict(read_value(each) for each in values)
        named: dict[int, Row] | None = {each: {} for each in to or []} if to or mine else None
        tell(terminal.act(lambda work: save_deal(work, deal_id, asked, None, named), as_))

    @group.command("take")
    def take(shared_deal_id: int, fields: Annotated[list[str] | None, typer.Argument()] = None, to: To = None, as_: As = None) -> None:
        """Take what a registration says into the deal: the named fields, or all that differ."""
        named: dict[int, Row] = {each: {} for each in to or []}
        tell(terminal.act(lambda work: take_over(work, shared_deal_id, fields or [], None, named), as_))

    return group


async def read_comparison(connection: AsyncConnection, side: Side, deal_id: int) -> tuple[Row, list[Row]]:
    """The deal, and its registrations with what they say."""
    deal = await load_deal(connection, deal_id)
    return deal, await read_beside(connection, side, deal)


def list_comparison(deal: Row, registrations: list[Row]) -> list[Row]:
    """One row for the deal, and one for each registration."""
    own = {"id": f"deal {deal['id']}", "peer": "", "status": "", **{name: deal[name] for name in DEAL_FIELDS}, "differs": ""}
    rows = [own]
    for each in registrations:
        said = {name: each["fields"].get(name, {}).get("value") for name in DEAL_FIELDS}
        rows.append({"id": each["id"], "peer": each["peer"], "status": each["status"], **said, "differs": ", ".join(each["differs"])})
    return rows


def tell(saved: list[Saved]) -> None:
    """What became of each value, and where."""
    show([{"field": each.field, "result": each.result, "registration": each.registration} for each in saved], False)
