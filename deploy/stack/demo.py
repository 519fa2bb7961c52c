"""The profile `demo`: both companies get sample data, once, and then a trickle of life through their APIs until it is stopped."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from deploy.demo import sample
from deploy.stack.company import Company, load_company
from deploy.stack.keys import ROOT
from deploy.stack.setup import ERRORS
from shared_schema.crm import users
from shared_schema.sync.station import Station

ALIVE = Path("/tmp/alive")  # the health check looks at its age
TOKEN = "trickle of the demo"
SAMPLES = {f"{company}: {about}" for company, *_, about in sample.CUSTOMERS}
LEFT = 4  # so many of the sample's deals are for the reader to register
PEOPLE = {"partner": "paula.brandt@nordlicht.example", "vendor": "victor.hale@initech.example"}
PLANT: dict[str, Callable[[Station], Awaitable[Any]]] = {"partner": sample.plant_partner, "vendor": sample.plant_vendor}
DETAILS = {"intro_note": "We have worked with them for years.", "pain": "Nobody sees the whole pipeline.", "next_steps": "A workshop."}
STEPS = ("Call the CFO", "Send the contract", "Book the workshop", "Check the reference", "Talk to procurement", "Wait for the budget")
NOTES = ("They want a fixed price.", "The board meets next week.", "A competitor has made an offer.", "They liked the reference visit.")


async def plant(company: Company) -> str:
    """Sample data where there is none, and a new token for the person who acts; earlier ones of this name end."""
    side = company.spec.side
    async with company.open() as station:
        async with station.database.reading() as connection:
            known = await users.find_user(connection, PEOPLE[side])
        if known is None:
            await PLANT[side](station)
        async with station.working() as work:
            person = await users.find_user(work.tx, PEOPLE[side])
            assert person is not None
            for each in await users.list_tokens(work.tx):
                if each["name"] == TOKEN and each["revoked_ms"] is None:
                    await users.revoke_token(work.tx, each["id"], work.now_ms)
            return await users.issue_token(work.tx, person["id"], TOKEN, work.incarnation.clock.random_bits(192), work.now_ms)


class Trickle:
    """A few acts a minute by one person on each side, as the dice say."""

    def __init__(self, sides: dict[str, httpx.Client], dice: random.Random) -> None:
        self.sides = sides
        self.dice = dice

    def act(self) -> str:
        """One act; what it was."""
        unregistered = self.list("partner", "deals?number_of_deal_registrations=0&limit=200")
        fresh = [deal for deal in unregistered if deal["name"] in SAMPLES]
        if len(fresh) > LEFT and self.dice.random() < 0.3:
            deal = self.dice.choice(fresh)
            self.send("POST", "partner", "shared-deals/convert", {"deal_id": deal["id"], "details": DETAILS})
            return f"registered {deal['name']}"
        side = self.dice.choice(["partner", "vendor"])
        mine = self.list(side, "shared-deals?status=active&state=alive&limit=200")
        if not mine:
            return "waited for a registration to be active"
        return self.work_on(side, self.dice.choice(mine)["id"])

    def work_on(self, side: str, shared_deal_id: int) -> str:
        path, kind = f"shared-deals/{shared_deal_id}", self.dice.choice(["step", "step", "amount", "note"])
        if kind == "note":
            self.send("POST", side, f"{path}/notes", {"body": self.dice.choice(NOTES)})
            return f"{side}: a note in {shared_deal_id}"
        amount = {"amount": {"amount": str(self.dice.randrange(40, 1400) * 100), "currency": "EUR"}}
        values = amount if kind == "amount" else {"next_step": self.dice.choice(STEPS)}
        self.send("PATCH", side, path, {"values": values})
        return f"{side}: {next(iter(values))} of {shared_deal_id}"

    def list(self, side: str, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.sides[side].get(f"/api/{path}").raise_for_status().json()["results"]
        return found

    def send(self, method: str, side: str, path: str, body: dict[str, Any]) -> None:
        self.sides[side].request(method, f"/api/{path}", json=body).raise_for_status()


def run(addresses: dict[str, str], tokens: dict[str, str], pause_s: float) -> None:
    clients = {
        side: httpx.Client(base_url=address, headers={"Authorization": f"Bearer {tokens[side]}"}, timeout=30)
        for side, address in addresses.items()
    }
    trickle = Trickle(clients, random.Random())
    while True:
        try:
            print(trickle.act(), flush=True)
            ALIVE.touch()
        except httpx.HTTPError as error:
            print(f"not done: {error}", flush=True)
        time.sleep(pause_s)


async def plant_all() -> dict[str, str]:
    return {side: await plant(load_company(side, ROOT)) for side in PEOPLE}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container has no other way to hear it
    try:
        tokens = asyncio.run(plant_all())
    except ERRORS as error:
        sys.exit(f"demo: {error}")
    addresses = {side: os.environ[f"{side.upper()}_API"] for side in PEOPLE}
    run(addresses, tokens, float(os.environ.get("DEMO_PAUSE_S", "5")))


if __name__ == "__main__":
    main()
