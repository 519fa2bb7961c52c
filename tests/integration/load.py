"""Clients that work at both nodes at once, and remember what was acknowledged to them."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import httpx

from deploy.demo.processes import NodeProcess

DETAILS = {"intro_note": "They know us.", "pain": "Spreadsheets.", "next_steps": "Demo on Monday."}
FIELDS = ("name", "next_step")
Json = dict[str, Any]


class Unanswered(Exception):
    """The node died or was away: nobody knows whether the command was done."""


class Client:
    """One person at one node. `acknowledged` holds every text that a command with a good answer wrote; each text is unique."""

    def __init__(self, node: NodeProcess, token: str, random: Random) -> None:
        self.node = node
        self.random = random
        self.http = httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self.acknowledged: list[str] = []
        self.unanswered = 0
        self.refused = 0
        self.written = 0

    async def work(self, ended: asyncio.Event) -> None:
        """One command after another until told to stop."""
        commands: list[Callable[[Json], Any]] = [self.edit] * 6 + [self.add_note, self.comment, self.delete_or_restore]
        if self.node.side == "partner":
            commands += [self.register]
        while not ended.is_set():
            try:
                deals = (await self.ask("GET", "/api/shared-deals?limit=50"))["results"]
                command = self.random.choice(commands) if deals else self.first
                await command(self.random.choice(deals) if deals else {})
            except Unanswered:
                self.unanswered += 1
                await asyncio.sleep(0.05)

    async def first(self, _: Json) -> None:
        """What to do where there is no deal yet."""
        if self.node.side == "partner":
            await self.register({})
        else:
            await asyncio.sleep(0.05)

    async def register(self, _: Json) -> None:
        name = self.next_text("deal")
        body = {"company_id": self.random.randint(1, 6), "deal": {"name": name}, "details": DETAILS}
        await self.write("POST", "/api/shared-deals/from-company", body, name)

    async def edit(self, deal: Json) -> None:
        value = self.next_text("edit")
        await self.write("PATCH", f"/api/shared-deals/{deal['id']}", {"values": {self.random.choice(FIELDS): value}}, value)

    async def add_note(self, deal: Json) -> None:
        body = self.next_text("note")
        await self.write("POST", f"/api/shared-deals/{deal['id']}/notes", {"body": body}, body)

    async def comment(self, deal: Json) -> None:
        notes = (await self.ask("GET", f"/api/shared-deals/{deal['id']}"))["notes"]
        if notes:
            body = self.next_text("comment")
            await self.write("POST", f"/api/notes/{self.random.choice(notes)['id']}/comments", {"body": body}, body)

    async def delete_or_restore(self, deal: Json) -> None:
        what = "restore" if deal["state"] != "alive" else "delete-for-both"
        if what == "restore" or self.random.random() < 0.3:
            await self.write("POST", f"/api/shared-deals/{deal['id']}/{what}", {} if what == "delete-for-both" else None, None)

    def next_text(self, what: str) -> str:
        self.written += 1
        return f"{what} {self.written} of the {self.node.side}"

    async def write(self, method: str, path: str, body: Json | None, text: str | None) -> None:
        """A command; its text counts as acknowledged once the answer is there. A refusal in words is an answer, too."""
        answer = await self.request(method, path, body)
        if answer.status_code >= 500 and answer.status_code != 503:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        if answer.status_code == 503:
            raise Unanswered(path)
        if answer.is_success and text is not None:
            self.acknowledged.append(text)
        self.refused += not answer.is_success

    async def ask(self, method: str, path: str) -> Json:
        answer = await self.request(method, path, None)
        if answer.status_code == 503:
            raise Unanswered(path)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        found: Json = answer.json()
        return found

    async def request(self, method: str, path: str, body: Json | None) -> httpx.Response:
        try:
            return await self.http.request(method, self.node.address + path, json=body)
        except httpx.TransportError as error:
            raise Unanswered(path) from error
