"""A town in containers: the stack of deploy/compose.yaml with its profile `chaos`, on a real engine. Its processes are killed and frozen
from outside, as only the engine can."""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from deploy.stack.engine import Compose
from deploy.stack.keys import OPERATOR
from deploy.stack.up import choose_stack, read_token, start
from partner_node.spec import SPEC as PARTNER
from shared_schema.crm.database import Database
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.security import Security
from shared_schema.sync.station import Station
from tests.chaos.links import BROKER, DATABASE
from tests.chaos.schedule import PROCESSES, SIDES
from tests.chaos.town import SETTINGS, Part, Town, add_customers, add_reps
from tests.chaos.toxiproxy import Link, Toxiproxy
from tests.compose.stand import docker, free_ports, until
from tests.databases import DatabaseServer
from tests.stores import keep_removed, read_rows
from vendor_node.spec import SPEC as VENDOR

NAME = "dealbridge-chaos"
OVER = Path(__file__).with_name("stack.yaml")
UNHARMED = {"vendor": 5501, "partner": 5502}  # where Toxiproxy also listens: the checker's own way to the stores
CALLED = dict(zip(PROCESSES, ("web-1", "sync-1", "sync-2"), strict=True))  # a town's process, as the engine numbers its container
STORE_PORT = 5432
THREADS = 8


class Container:
    """One container, through the engine. What was killed stays dead until it is started, and has started once it is healthy: whoever meets
    the next fault before that may well end, as it says why it can not begin."""

    def __init__(self, id: str, name: str, log: Path) -> None:
        self.id = id
        self.name = name
        self.side = name.partition("-")[0]
        self.log = log
        self.address = ""

    @property
    def process(self) -> Self:
        return self

    def start(self) -> None:
        docker("start", self.id)
        until(f"{self.name} is healthy", lambda: self.inspect()["Health"]["Status"] == "healthy")

    def kill(self) -> None:
        if self.poll() is None:
            docker("kill", self.id)

    def send_signal(self, which: int) -> None:
        """SIGSTOP and SIGCONT, to everything in it."""
        docker("pause" if which == signal.SIGSTOP else "unpause", self.id)

    def poll(self) -> int | None:
        """None while it runs, frozen or not."""
        state = self.inspect()
        return None if state["Running"] else int(state["ExitCode"])

    def inspect(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(docker("inspect", "--format", "{{json .State}}", self.id))
        return state

    def keep_log(self) -> None:
        with self.log.open("wb") as file:
            subprocess.run(["docker", "logs", self.id], stdout=file, stderr=subprocess.STDOUT, check=True)


class Containers:
    """Several that live and die together."""

    process = None

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts

    def start(self) -> None:
        for part in self.parts:
            part.start()

    def kill(self) -> None:
        for part in self.parts:
            part.kill()


class ContainedPostgres(DatabaseServer):
    """A side's PostgreSQL, by its owner inside the container."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def execute(self, statement: str) -> None:
        docker("exec", self.container.id, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "dealbridge", "-d", "postgres", "-c", statement)


class StackTown(Town):
    """The stack as it runs now."""

    def __init__(self, directory: Path, owner: Executor, stack: Compose) -> None:
        self.stack = stack
        found = {each["Name"].removeprefix(f"{NAME}-"): each["ID"] for each in stack.list_containers()}
        self.containers = {name: Container(id, name, directory / f"{name}.log") for name, id in found.items()}
        port = stack.address("kafka", 9094).rsplit(":", 1)[1]
        super().__init__(directory, owner, self.containers["kafka-1"], f"localhost:{port}", self.read_security(directory))
        for side in SIDES:
            self.containers[f"{side}-web-1"].address = f"http://{stack.address(f'{side}-web', 8080)}"
        self.nodes = {(side, name): self.containers[f"{side}-{CALLED[name]}"] for side in SIDES for name in PROCESSES}
        self.databases = Containers([self.containers[f"{side}-db-1"] for side in SIDES])
        self.servers = {side: ContainedPostgres(self.containers[f"{side}-db-1"]) for side in SIDES}
        proxy = Toxiproxy(directory / "toxiproxy.log", f"http://{stack.address('toxiproxy', 8474)}")
        ends = {BROKER: "broker", DATABASE: "store"}
        self.links = {(side, end): Link(proxy, f"{side}-{name}", 0) for side in SIDES for end, name in ends.items()}
        self.urls = {side: self.open_way(proxy, side) for side in SIDES}
        self.tokens = {side: read_token(stack, side) for side in SIDES}
        self.restarts = self.count_restarts()

    def read_security(self, directory: Path) -> Security:
        """The operator's, who may do everything at the broker."""
        authority = directory / "ca.pem"
        authority.write_text(self.read_secret("ca.pem"))
        return Security("sasl_tls", authority, OPERATOR, self.read_secret(f"{OPERATOR}-password").strip())

    def read_secret(self, name: str) -> str:
        """A file of the broker's, as the one step reads it that may."""
        once = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "cat", "setup")
        return self.stack.run(*once, f"/secrets/broker/{name}").stdout

    def open_way(self, proxy: Toxiproxy, side: str) -> str:
        """The address of a side's store, past the link that is harmed."""
        inside = UNHARMED[side]
        way = {"name": f"{side}-unharmed", "listen": f"0.0.0.0:{inside}", "upstream": f"{side}-db:{STORE_PORT}", "enabled": True}
        proxy.ask("POST", "/proxies", way)
        password = self.stack.inside(f"{side}-db", "cat", f"/secrets/{side}/database-password").strip()
        return f"postgresql://dealbridge:{quote(password, safe='')}@{self.stack.address('toxiproxy', inside)}/dealbridge"

    def count_restarts(self) -> dict[str, int]:
        """How often the engine had to start each container again by itself."""
        lines = docker("inspect", "--format", "{{.Name}} {{.RestartCount}}", *(each.id for each in self.containers.values())).splitlines()
        return {name: int(count) for name, count in (line.split() for line in lines)}

    async def revive(self) -> None:
        """The engine does it; that it had to is remembered."""
        now = await self.by_owner(self.count_restarts)
        self.deaths += [f"{name} ended by itself" for name, count in now.items() if count > self.restarts[name]]
        self.restarts = now

    async def keep_logs(self) -> None:
        for each in self.containers.values():
            await self.by_owner(each.keep_log)


@asynccontextmanager
async def open_stack(directory: Path) -> AsyncIterator[StackTown]:
    """Built, healthy and planted; all gone afterwards, volumes too. Raises NoEngine and ComposeFailed."""
    settings = {name.removeprefix("DEALBRIDGE_"): value for name, value in SETTINGS.items()}
    stack = choose_stack(["chaos"], NAME, free_ports() | settings)
    stack.over = (OVER,)
    with ThreadPoolExecutor(THREADS) as owner:
        act = asyncio.get_running_loop().run_in_executor
        try:
            await act(owner, start, stack)
            town = await act(owner, StackTown, directory, owner, stack)
            await plant(town)
            yield town
        finally:
            await act(owner, lambda: stack.run("down", "--volumes", "--remove-orphans", "--timeout", "1"))


async def plant(town: StackTown) -> None:
    """What the set-up of the stack leaves to its owners: reps, customers, deals of one's own."""
    for spec in (PARTNER, VENDOR):
        station = Station(spec, Database(town.urls[spec.side]), SystemClock())
        async with station.working() as work:
            await add_customers(work)
            if spec is VENDOR:
                await add_reps(work)
        await station.database.close()
        await keep_removed(town.urls[spec.side])
    ((town.partnership,),) = await read_rows(town.urls["vendor"], "SELECT id FROM partnerships")
