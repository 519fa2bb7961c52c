"""The command line that both nodes share. Commands act on the store directly, so they work whether the daemon runs or not."""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from fastapi import APIRouter
from rich.console import Console
from rich.table import Table

from shared_schema.contract.records import InvalidValue
from shared_schema.crm import customers, deal_views, deals, private_notes, users
from shared_schema.crm.database import BadDatabaseUrl, Database, DatabaseUnavailable
from shared_schema.crm.migrations import NotMigrated, check_migrated, migrate
from shared_schema.crm.problems import Invalid, NotFound, Problem
from shared_schema.sync import conflicts, erasure_list, notes, partnerships, views
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.capture import NotWritable
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.deals import save_shared
from shared_schema.sync.erasure_list import BadErasureList
from shared_schema.sync.merging import merge_deals
from shared_schema.sync.outbox import EventTooLarge
from shared_schema.sync.rich_text import clean
from shared_schema.sync.settings import BadSettings, Role, Settings, load_settings, locate_store, make_keeping, secure
from shared_schema.sync.station import Author, NodeSpec, Station, Work, persist
from shared_schema.sync.status import read_status
from shared_schema.sync.transport import Broker, BrokerError
from shared_schema.web import process
from shared_schema.web.status_view import render, watch_status

REFUSED = (Problem, InvalidValue, NotWritable, EventTooLarge)
ERRORS = (*REFUSED, BadErasureList, NotMigrated, DatabaseUnavailable, BadDatabaseUrl, BadSettings, BrokerError)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
As = Annotated[str | None, typer.Option("--as", help="The e-mail of the user who acts; by default the first admin.")]


class Terminal:
    """One node's commands."""

    def __init__(self, spec: NodeSpec, routers: Sequence[APIRouter]) -> None:
        self.spec = spec
        self.routers = routers
        self.program = f"{spec.side}-node"
        self.app = typer.Typer(no_args_is_help=True, add_completion=False, help=f"The {spec.side}'s node of Dealbridge.")
        for name in ("run", "insights", "migrate", "seed", "status"):
            self.app.command(name)(getattr(self, f"{name}_node" if name == "run" else name))
        for group in (self.deal_commands, self.note_commands, self.conflict_commands, self.people_commands):
            group()

    def main(self) -> None:
        """Run a command; an error is one line and an exit code of 1, a bad setting one of 2."""
        try:
            self.app()
        except ERRORS as error:
            fail(error)

    def act(self, command: Callable[[Work], Awaitable[Any]], email: str | None = None) -> Any:
        """Run one command as a user, committed whole or not at all."""

        async def run(station: Station) -> Any:
            async with station.working(await find_author(station, email)) as work:
                return await command(work)

        return self.with_station(run)

    def read(self, reading: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        async def run(station: Station) -> Any:
            async with station.database.reading() as connection:
                return await reading(connection, *arguments)

        return self.with_station(run)

    def with_station(self, run: Callable[[Station], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            settings = load_settings()
            database = Database(locate_store(settings))
            try:
                await check_migrated(database, self.spec.migrations, self.program)
                station = Station(self.spec, database, SystemClock(), make_keeping(settings))
                await erasure_list.apply(station)
                return await persist(lambda: run(station))
            finally:
                await database.close()

        return asyncio.run(whole())

    def with_broker(self, run: Callable[[Station, Broker], Awaitable[Any]]) -> Any:
        """The same with the broker of the settings; why it can not be reached is for the error alone to say."""
        settings = load_settings()
        logging.getLogger().addHandler(logging.NullHandler())

        async def whole(station: Station) -> Any:
            broker = KafkaBroker(settings.kafka, secure(settings))
            await broker.start()
            try:
                return await run(station, broker)
            finally:
                await broker.stop()

        return self.with_station(whole)

    def run_node(self, role: Annotated[Role | None, typer.Option(help="web, sync or all.")] = None) -> None:
        """Run the node until it is stopped."""
        settings = load_settings()
        process.run(settings.model_copy(update={"role": role}) if role else settings, self.spec, self.routers)

    def insights(self) -> None:
        """Run the statistics over the topics, until they are stopped."""
        from shared_schema.web import insights_process  # noqa: PLC0415  # no other command is to load faust

        insights_process.run(load_settings(), self.spec)

    def migrate(self) -> None:
        """Bring the store up to this version's schema."""

        async def whole(settings: Settings) -> str:
            database = Database(locate_store(settings))
            try:
                return await migrate(database, self.spec.migrations)
            finally:
                await database.close()

        print(f"the store is at revision {asyncio.run(whole(load_settings()))}")

    def seed(self, email: str = "admin@example.com", name: str = "Admin") -> None:
        """Make an empty store usable: a pipeline, a first admin, and their token."""

        print(self.act(lambda work: plant(work, email, name)))

    def status(
        self, as_json: Json = False, watch: Annotated[bool, typer.Option("--watch", help="Keep looking, until Ctrl-C.")] = False
    ) -> None:
        """How the sync stands: backlog, what is unacknowledged, gaps, what is parked, when the peer was heard."""
        if watch:
            with suppress(KeyboardInterrupt):
                self.with_station(watch_status)
            return
        now_ms = SystemClock().now_ms()
        found = self.read(read_status, now_ms)
        if as_json:
            show(found, True)
        else:
            Console().print(render(self.spec.side, found, now_ms))

    def deal_commands(self) -> None:
        group = self.group("deals", "The CRM's deals.")

        @group.command("list")
        def list_(shared: bool | None = None, search: str | None = None, view: int | None = None, as_json: Json = False) -> None:
            """List deals; --shared for shared ones alone, --view for everybody's saved view of that id."""
            filters: dict[str, Any] = {name: value for name, value in (("shared", shared), ("search", search)) if value is not None}
            if view is not None:
                filters["view"] = self.read(deal_views.load_view, view, None)["conditions"]
            columns = ("id", "name", "company", "stage", "amount", "owner", "number_of_active_deal_registrations")
            show(self.read(deals.list_deals, filters, 0, 200), as_json, columns)

        @group.command("show")
        def show_(shared_deal_id: int) -> None:
            """Show a shared deal whole, as JSON."""
            show(self.read(views.read_shared_deal, self.spec.side, shared_deal_id), True)

        @group.command("save")
        def save(shared_deal_id: int, values: list[str], as_: As = None) -> None:
            """Save shared fields of a shared deal: FIELD=VALUE …; a value is JSON where it reads as such, else text."""
            asked = dict(read_value(each) for each in values)
            saved = self.act(lambda work: save_shared(work, shared_deal_id, asked), as_)
            show([{"field": each.field, "result": each.result} for each in saved], False)

        @group.command("merge")
        def merge(deal_id: int, taken_over: int, as_: As = None) -> None:
            """Take another deal over: its registrations, notes and history; its id leads here afterwards."""
            print(self.act(lambda work: merge_deals(work, deal_id, taken_over), as_))

    def note_commands(self) -> None:
        group = self.group("notes", "Private and shared notes.")

        @group.command("list")
        def list_(deal_id: int, as_json: Json = False) -> None:
            """List a deal's private notes."""
            show(self.read(private_notes.list_of, deal_id), as_json, ("id", "author", "body"))

        @group.command("add")
        def add(deal_id: int, body: str, shared: bool = False, as_: As = None) -> None:
            """Add a private note to a deal, or with --shared a shared note to a shared deal."""

            async def command(work: Work) -> int:
                if shared:
                    return await notes.add_note(work, deal_id, body)
                deal = await deals.load_deal(work.tx, deal_id)
                return await private_notes.add(work.tx, deal["id"], work.author.user_id, clean("body", body), work.now_ms)

            print(self.act(command, as_))

    def conflict_commands(self) -> None:
        group = self.group("conflicts", "Fields that both sides changed at once.")

        @group.command("list")
        def list_(as_json: Json = False) -> None:
            """List open conflicts."""
            show(self.read(conflicts.list_open), as_json, ("id", "deal", "kind", "field", "shared_deal_id"))

        @group.command("show")
        def show_(conflict_id: int) -> None:
            """Show base, ours and theirs, as JSON."""
            show(self.read(conflicts.read, self.spec.side, conflict_id), True)

        @group.command("settle")
        def settle(conflict_id: int, choice: str, value: str | None = None, as_: As = None) -> None:
            """Settle a conflict: keep, theirs, or edit with --value as JSON."""
            chosen = partnerships.read_bundle(value) if value is not None else None
            self.act(lambda work: conflicts.settle(work, conflict_id, choice, chosen), as_)  # type: ignore[arg-type]  # checked by settle

    def people_commands(self) -> None:
        people = self.group("users", "The people of this company.")
        tokens = self.group("tokens", "What programs come in with.")

        @people.command("list")
        def list_users(as_json: Json = False) -> None:
            """List users."""
            show(self.read(users.list_users), as_json, ("id", "name", "email", "role", "active"))

        @people.command("add")
        def add_user(name: str, email: str, role: str = "rep") -> None:
            """Add a user: admin, manager or rep."""
            print(self.act(lambda work: users.add_user(work.tx, work.incarnation.new_uid(), name, email, role)))

        @tokens.command("list")
        def list_tokens(as_json: Json = False) -> None:
            """List tokens by name."""
            show(self.read(users.list_tokens), as_json)

        @tokens.command("create")
        def create(email: str, name: str = "token") -> None:
            """Create a token for a user; it is printed this once."""

            async def command(work: Work) -> str:
                user = await users.find_user(work.tx, email)
                if user is None:
                    raise NotFound("user", email)
                return await users.issue_token(work.tx, user["id"], name, work.incarnation.clock.random_bits(192), work.now_ms)

            print(self.act(command))

        @tokens.command("revoke")
        def revoke(token_id: int) -> None:
            """Revoke a token."""
            self.act(lambda work: users.revoke_token(work.tx, token_id, work.now_ms))

    def group(self, name: str, help_: str) -> typer.Typer:
        group = typer.Typer(no_args_is_help=True, help=help_)
        self.app.add_typer(group, name=name)
        return group


async def plant(work: Work, email: str, name: str) -> str:
    """The first pipeline and the first admin of an empty store; the admin's token. Raises Invalid if they are there already."""
    if await users.find_user(work.tx, email):
        raise Invalid("email", f"{email} is there already; `tokens create` makes another token")
    if not await customers.list_pipelines(work.tx):
        await customers.add_pipeline(work.tx, "Sales", STAGES)
    user_id = await users.add_user(work.tx, work.incarnation.new_uid(), name, email, "admin")
    return await users.issue_token(work.tx, user_id, "seed", work.incarnation.clock.random_bits(192), work.now_ms)


STAGES = [("New", "open"), ("Qualified", "open"), ("Proposal", "open"), ("Negotiation", "open"), ("Won", "won"), ("Lost", "lost")]


async def find_author(station: Station, email: str | None) -> Author:
    """The user who acts on the command line: the named one, else the first admin, else the machine."""
    async with station.database.reading() as connection:
        known = await users.list_users(connection)
    chosen = [user for user in known if (user["email"] == email if email else user["role"] == "admin")]
    if email and not chosen:
        raise NotFound("user", email)
    return Author(chosen[0]["id"], chosen[0]["uid"], chosen[0]["name"], chosen[0]["role"]) if chosen else Author()


def read_value(text: str) -> tuple[str, Any]:
    """FIELD=VALUE as a field and its value; raises Invalid."""
    field, equals, value = text.partition("=")
    if not equals:
        raise Invalid(text, "takes FIELD=VALUE, such as next_step='Call them'")
    try:
        return field, json.loads(value)
    except ValueError:
        return field, value


def read_file(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("bundle", f"can not be read from {path}: {error}") from error


def show(found: Any, as_json: bool, columns: Iterable[str] = ()) -> None:
    """A table for people, or JSON for programs."""
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    if not found:
        print("nothing")
        return
    names = list(columns) or list(found[0])
    table = Table(*names, box=None, header_style="bold")
    for row in found:
        table.add_row(*(describe(row[name]) for name in names))
    Console().print(table)


def describe(value: Any) -> str:
    if isinstance(value, dict) and "amount" in value:
        return f"{value['amount']} {value['currency']}"
    return "" if value is None else str(value)


def fail(error: Exception, code: int = 1) -> NoReturn:
    """One line that says what is wrong and what to do; exits with this code, and with 2 for a bad setting."""
    remedy = getattr(error, "remedy", None)
    message = str(error)
    print(f"dealbridge: {message}" + (f" ({remedy})" if remedy and remedy not in message else ""), file=sys.stderr)
    sys.exit(2 if isinstance(error, BadSettings) else code)
