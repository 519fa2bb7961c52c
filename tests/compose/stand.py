"""A stack of its own on a real engine: started, asked, and taken away again."""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from deploy.stack.engine import DEPLOY, Compose, ComposeFailed
from deploy.stack.up import choose_stack, list_unready, read_token, start

NAME = "dealbridge-test"
PORTS = ("VENDOR_PORT", "PARTNER_PORT", "BROKER_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "TOXIPROXY_PORT", "PORT", "PORT_TOO")
WAIT_S = 180
SCRIPT = re.compile(r"<!-- run: ([\w-]+) -->\n```sh\n(.*?)```", re.DOTALL)
DETAILS = {"intro_note": "We know them.", "pain": "Spreadsheets.", "next_steps": "A workshop."}
Json = dict[str, Any]


class Failed(AssertionError):
    """Something that was promised is not so."""


def until(what: str, condition: Callable[[], Any], wait_s: float = WAIT_S) -> Any:
    """What the condition gives once it is true; raises Failed."""
    deadline_s = time.monotonic() + wait_s
    while True:
        with suppress(httpx.HTTPError, ComposeFailed, KeyError):
            if found := condition():
                return found
        if time.monotonic() > deadline_s:
            raise Failed(f"after {wait_s:.0f} s it is not so that {what}")
        time.sleep(0.5)


def check(promised: bool, what: str) -> None:
    if not promised:
        raise Failed(what)


def free_ports() -> dict[str, str]:
    """A port for each; all are held until all are found."""
    with bound_sockets(len(PORTS)) as sockets:
        return {name: str(each.getsockname()[1]) for name, each in zip(PORTS, sockets, strict=True)}


@contextmanager
def bound_sockets(count: int) -> Iterator[list[socket.socket]]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        yield sockets
    finally:
        for each in sockets:
            each.close()


def documented(name: str) -> str:
    """The commands that the manual gives for this."""
    return dict(SCRIPT.findall((DEPLOY / "README.md").read_text()))[name]


class Node:
    """One side's API, and the registrations in it."""

    def __init__(self, side: str, address: str, token: str) -> None:
        self.side = side
        self.client = httpx.Client(base_url=f"http://{address}/api", headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def get(self, path: str) -> Json:
        found: Json = self.client.get(path).raise_for_status().json()
        return found

    def post(self, path: str, body: Json) -> Json:
        answer = self.client.post(path, json=body)
        if answer.is_error:
            raise Failed(f"{self.side}: POST {path}: {answer.status_code} {answer.text}")
        made: Json = answer.json()
        return made

    def register(self, number: int) -> str:
        """A contact of its own, and a deal with it; the registration's id. For partners."""
        domain = f"customer-{number}.example"
        company = self.post("/companies", {"name": f"Customer {number}", "domain": domain})
        contact = self.post("/contacts", {"name": "Ann Ahn", "email": f"ann@{domain}", "company_id": company["id"]})
        deal = {"name": f"Deal {number}", "amount": {"amount": "1000", "currency": "EUR"}}
        made = self.post("/shared-deals/from-contact", {"contact_id": contact["id"], "deal": deal, "details": DETAILS})
        return str(made["shared_deal"]["registration"])

    def find(self, registration: str) -> Json | None:
        rows = self.get("/shared-deals?limit=200")["results"]
        return next((row for row in rows if row["registration"] == registration), None)

    def load(self, registration: str) -> Json:
        row = self.find(registration)
        return self.get(f"/shared-deals/{row['id']}") if row else {}

    def edit(self, registration: str, **values: Any) -> None:
        row = self.find(registration)
        if row is None:
            raise Failed(f"{self.side} does not have {registration}")
        self.client.patch(f"/shared-deals/{row['id']}", json={"values": values}).raise_for_status()

    def values(self, registration: str) -> dict[str, Any]:
        fields = self.load(registration).get("deal", {}).get("fields", {})
        return {name: field["value"] for name, field in fields.items() if name not in ("stage", "pipeline")}

    def notes(self, registration: str) -> list[str]:
        return sorted(each["fields"]["body"]["value"] for each in self.load(registration).get("notes", []))


class Pair:
    """Two nodes that have joined, over their APIs alone."""

    partner: Node
    vendor: Node
    registered = 0

    def share(self) -> str:
        """A new registration that is active on both sides."""
        self.registered += 1
        registration = self.partner.register(self.registered)
        until("the deal is at the vendor", lambda: self.vendor.find(registration))
        until("it is active here", lambda: (self.partner.find(registration) or {}).get("status") == "active")
        return registration

    def edit_both(self, registration: str, word: str) -> None:
        """Another value from each side, and a note from each."""
        self.partner.edit(registration, next_step=f"partner: {word}")
        self.vendor.edit(registration, close_date=f"2027-{1 + len(word) % 12:02}-{1 + sum(map(ord, word)) % 28:02}")
        for node in (self.partner, self.vendor):
            row = node.find(registration)
            assert row is not None
            node.post(f"/shared-deals/{row['id']}/notes", {"body": f"{node.side}: {word}"})

    def until_in_step(self, registration: str, *words: str) -> dict[str, Any]:
        """Both sides have the same, with a note of each side for each word; what they have."""

        def same() -> bool:
            here, there = self.partner, self.vendor
            wanted = sorted(f"{side}: {word}" for word in words for side in ("partner", "vendor"))
            notes = here.notes(registration)
            alike = here.values(registration) == there.values(registration) and notes == there.notes(registration)
            return alike and set(wanted) <= set(notes)

        until(f"both sides have {', '.join(words)}", same)
        return self.partner.values(registration)


class Stand(Pair):
    """The stack under test. `directory` is where scripts of the manual leave their files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = free_ports()
        self.choose([])

    def choose(self, profiles: list[str]) -> None:
        """What `start` brings up."""
        self.stack = choose_stack(profiles, NAME, self.ports)

    def start(self) -> None:
        start(self.stack)
        self.connect()

    def connect(self) -> None:
        self.partner, self.vendor = (
            Node(side, self.stack.address(f"{side}-web", 8080), read_token(self.stack, side)) for side in ("partner", "vendor")
        )

    def connect_when_healthy(self) -> None:
        until("all of it is healthy", lambda: not list_unready(self.stack))
        self.connect()

    def stop(self) -> None:
        whole = Compose(name=NAME, settings=self.ports | {"COMPOSE_PROFILES": "*"})
        whole.run("down", "--volumes", "--remove-orphans", "--timeout", "10")

    def script(self, name: str, place: str = "", extra: dict[str, str] | None = None) -> str:
        """Run the manual's commands as they stand there; what they say. Raises Failed."""
        text = documented(name)
        whole = os.environ | self.stack.settings | {"COMPOSE_PROJECT_NAME": f"{place and place + '-'}{NAME}"} | (extra or {})
        file = DEPLOY / place / "compose.yaml"
        whole["COMPOSE_FILE"] = str(file)  # the files that the commands leave are not for the checkout
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.directory,
            env=whole,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"the manual's {name}: {(done.stderr or done.stdout).strip()[-1_500:]}")
        return done.stdout

    def ask_prometheus(self, query: str) -> list[Json]:
        """What Prometheus' own API answers to an instant query."""
        answer = httpx.get(f"http://{self.stack.address('prometheus', 9090)}/api/v1/query", params={"query": query}, timeout=10)
        found: list[Json] = answer.raise_for_status().json()["data"]["result"]
        return found

    def containers(self) -> dict[str, Json]:
        return {each["Service"]: each for each in self.stack.list_containers()}

    def inspect(self, service: str) -> Json:
        container = self.containers()[service]["ID"]
        found: Json = json.loads(docker("inspect", container))[0]
        return found

    def until_healthy(self, service: str) -> None:
        until(f"{service} is healthy", lambda: self.containers()[service]["Health"] == "healthy")


def docker(*arguments: str, given: str | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=given, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise Failed(f"docker {' '.join(arguments)}: {done.stderr.strip()[-1_000:]}")
    return done.stdout
