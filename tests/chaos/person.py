"""One person at one node: one request at a time, each in the log before it is sent; pages that are kept open and grow stale."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, NamedTuple

import httpx

from shared_schema.contract.registers import decode_token
from tests.chaos.client_log import ClientLog, Reached, Written

Json = dict[str, Any]
WINDOW = 25  # so many of the newest registrations are worked on
HOT = 3  # and so many of them by both sides at once, most of the time
PAGES = 6
TIMEOUT_S = 30
PAUSE_S = (0.02, 0.18)
FIELDS = ("name", "amount", "close_date", "next_step")


class Unanswered(Exception):
    """The node died or was away: nobody knows whether the command was done."""


class Failed(Exception):
    """The node answered with an error of its own."""


class Point(NamedTuple):
    """Where in an answer stands what a command wrote: a part of the shared deal, which of several by id (None: the one that was made), and
    the field."""

    part: str
    field: str
    id: int | None = None


class Ask(NamedTuple):
    """A command to send."""

    do: str
    method: str
    path: str
    body: Json | None = None
    points: tuple[Point, ...] = ()
    written: tuple[Written, ...] = ()
    private: str | None = None


class Person:
    """Knows where its node answers now, and what it was shown."""

    def __init__(self, side: str, address: Callable[[], str], token: str, log: ClientLog, random: Random) -> None:
        self.side = side
        self.address = address
        self.log = log
        self.random = random
        self.http = httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S)
        self.counted = 0
        self.acknowledged = 0
        self.newest = 0
        self.pages: deque[Json] = deque(maxlen=PAGES)
        self.applied: dict[tuple[str, str], Any] = {}

    async def work(self, draw: Callable[["Person"], Any], ended: asyncio.Event) -> None:
        """One command after another until told to stop."""
        while not ended.is_set():
            try:
                ask = await draw(self)
                if ask is not None:
                    await self.do(ask)
            except Unanswered:
                await asyncio.sleep(0.1)
            await asyncio.sleep(self.random.uniform(*PAUSE_S))

    async def do(self, ask: Ask) -> None:
        """Send a command; what became of it is in the log before anything else happens. A refusal in words is an answer, too."""
        number = self.log.ask(ask.do, ask.path, ask.written, ask.private)
        try:
            answer = await self.request(ask.method, ask.path, ask.body)
        except Unanswered as error:
            self.log.answer(number, "unanswered", detail=str(error))
            raise
        except Failed as error:
            self.log.answer(number, "failed", detail=str(error))
            return
        if not answer.is_success:
            self.log.answer(number, "refused", detail=f"{answer.status_code} {answer.text[:200]}")
            return
        told = answer.json() if answer.content else {}
        shared = told.get("shared_deal") or {}
        reached = list(find_reached(told, ask))
        self.acknowledged += 1
        self.log.answer(number, "acknowledged", reached=reached, registration=shared.get("registration"))

    async def open_page(self) -> Json | None:
        """One of the newest shared deals, as it is shown now."""
        after = max(0, self.newest - WINDOW)
        rows = await self.list(f"/api/shared-deals?after={after}&limit={2 * WINDOW}")
        self.newest = max([self.newest, *(row["id"] for row in rows)])
        if not rows:
            self.newest = 0  # a store that went back gives ids again
            return None
        hot = rows[-HOT:] if self.random.random() < 0.6 else rows
        page = await self.read(f"/api/shared-deals/{self.random.choice(hot)['id']}")
        if page is not None:
            self.look(page)
            self.pages.append(page)
        return page

    def look(self, page: Json) -> None:
        """Remember what is said to have been applied by the peer."""
        fields = page["deal"]["fields"].items() if page["deal"] else ()
        told = []
        for name, field in fields:
            place = (page["deal"]["uid"], name)
            if field["sync"] == "applied" and self.applied.get(place) != field["seen"]:
                self.applied[place] = field["seen"]
                told.append((*place, decode_token(field["seen"])))
        self.log.see(page["registration"], told)

    async def list(self, path: str) -> list[Json]:
        found = await self.read(path)
        return found["results"] if found else []

    async def read(self, path: str) -> Json | None:
        """None for what is not there."""
        try:
            answer = await self.request("GET", path, None)
        except Failed as error:
            self.log.answer(self.log.ask("read", path), "failed", detail=str(error))
            return None
        found: Json | None = answer.json() if answer.is_success else None
        return found

    async def request(self, method: str, path: str, body: Json | None) -> httpx.Response:
        """Raises Unanswered and Failed."""
        try:
            answer = await self.http.request(method, self.address() + path, json=body)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unanswered(f"{type(error).__name__} {error}") from error
        if answer.status_code == 503:
            raise Unanswered(answer.text[:300])
        if answer.status_code >= 500:
            raise Failed(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

    def next_text(self, what: str) -> str:
        """Nobody else writes the same."""
        self.counted += 1
        return f"{what} {self.counted} of the {self.side}"


def find_reached(told: Json, ask: Ask) -> Iterable[Reached]:
    """What the answer shows of what the command wrote."""
    if "outcomes" in told and "shared_deal" not in told:
        for written, outcome in zip(ask.written, told["outcomes"], strict=False):
            yield written.uid, written.field, decode_token(outcome["seen"])
    for point in ask.points:
        part = (told.get("shared_deal") or {}).get(point.part)
        id = point.id if point.id is not None else told.get("id")
        record = next((each for each in part if id is None or each.get("id") == id), None) if isinstance(part, list) else part
        if record and point.field == "life":
            yield record["uid"], "life", decode_token(record["life_seen"])
        elif record and point.field in record["fields"]:
            yield record["uid"], point.field, decode_token(record["fields"][point.field]["seen"])
