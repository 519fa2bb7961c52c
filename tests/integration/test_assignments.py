"""Very many registrations from several clients at once, redelivered: one rep each, fair, and every explanation true."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select

from partner_node.registrations import share_from_company
from shared_schema.crm import customers, users
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.sync.tables import reactions
from tests.integration.pair import DETAILS, Pair, open_pair
from tests.twins.memory_broker import Faults, MemoryBroker, MemoryCluster
from vendor_node import reps
from vendor_node.assignment import decide_again
from vendor_node.tables import assignments

REGISTRATIONS = {"sqlite": 800, "postgresql": 2_000}  # one writer at a time can race no other
CLIENTS = 8
CAP = 60
# Weight, cap, out of office, territories. Victor, the first, is no rep.
REPS: list[dict[str, Any]] = [
    {"weight": 3},
    {"weight": 2},
    {"weight": 1},
    {"weight": 2, "cap": CAP},
    {"weight": 5, "out_from": "2020-01-01", "out_until": "2199-12-31"},
    {"weight": 2, "territories": ["CH"]},
    {"weight": 1, "territories": ["CH"]},
]
COUNTRIES = ("DE", "FR", "CH", "IT")


@pytest.fixture
async def pair(database_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    cluster = MemoryCluster(Faults(Random(4), duplicate=0.4, lost_acknowledgement=0.01, failed_send=0.01))
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.become_partners(capacity=max(REGISTRATIONS.values()) + 1)
        async with opened.vendor.station.working() as work:
            for number, settings in enumerate(REPS, 2):
                await users.add_user(work.tx, work.incarnation.new_uid(), f"Rep {number}", f"rep{number}@vendor.example")
                await reps.add_rep(work.tx, number, settings)
        async with opened.partner.station.working() as work:
            for number in range(40):
                company = {"name": f"Company {number}", "domain": f"c{number}.example", "country": COUNTRIES[number % 4]}
                await customers.add_company(work.tx, company, work.now_ms)
        opened.partner.start()
        opened.vendor.start()
        yield opened


async def test_each_gets_one_rep_in_fair_turns_and_true_explanations(pair: Pair) -> None:
    expected = REGISTRATIONS[pair.vendor.station.database.dialect]
    await asyncio.gather(*(register(pair, Random(client), expected // CLIENTS) for client in range(CLIENTS)))
    await until_assigned(pair, expected)
    rows = await pair.vendor.rows(select(assignments).order_by(assignments.c.id))
    assert len(rows) == len({row.registration for row in rows}) == expected
    assert await pair.vendor.rows(select(shared_deals.c.id).where(shared_deals.c.rep_person.is_(None))) == []
    told = [json.loads(row.explanation) for row in rows]
    check_true(rows, told)
    check_fair(rows, told)
    for registration, person in await pair.partner.rows(select(shared_deals.c.uid, shared_deals.c.rep_person)):
        assert person, f"the partner does not see who has {registration}"


async def register(pair: Pair, random: Random, count: int) -> None:
    partner = pair.partner
    for _ in range(count):
        await partner.do(share_from_company, pair.partnership, random.randint(1, 40), {"name": "Deal"}, DETAILS)


async def until_assigned(pair: Pair, expected: int) -> None:
    """Under a deadline that only a bug reaches."""
    async with asyncio.timeout(400):
        while not await all_assigned(pair, expected):
            await asyncio.sleep(0.25)
    await pair.settle()


async def all_assigned(pair: Pair, expected: int) -> bool:
    count = (await pair.vendor.rows(select(func.count()).select_from(assignments)))[0][0]
    return bool(count >= expected and not await pair.vendor.rows(select(reactions.c.kind)))


def check_true(rows: list[Any], told: list[Any]) -> None:
    """Each explanation leads to its rep, and names the state that the assignments before it led to."""
    credits: dict[int, int] = {}
    open_deals: Counter[int] = Counter()
    for row, explanation in zip(rows, told, strict=True):
        for rep in explanation["considered"]:
            assert rep["credit"] == credits.get(rep["id"], 0)
            assert rep["open_deals"] == open_deals[rep["id"]]
        again = decide_again(explanation)
        assert (again.rep_id, again.method) == (row.rep_id, row.method)
        assert explanation["considered"][row.rep_id - 2]["passed_over"] is None
        credits |= again.credits
        open_deals[row.rep_id] += 1


def check_fair(rows: list[Any], told: list[Any]) -> None:
    """Nobody out of office, nobody above their cap, a territory's registrations to those who have it; and of the turns that each rep
    could have been given, within one per weight of their share. The wheel is one: the two of the territory get theirs from it too."""
    counts = Counter(row.rep_id for row in rows)
    assert counts[6] == 0 and counts[5] == CAP
    territory = [row for row, explanation in zip(rows, told, strict=True) if explanation["request"]["country"] == "CH"]
    assert len(territory) > len(rows) * 0.15 and {row.rep_id for row in territory} == {7, 8}
    shares: dict[int, float] = {}
    for row, explanation in zip(rows, told, strict=True):
        wheel = [rep for rep in explanation["considered"] if not rep["passed_over"] and (row.method != "territory" or rep["id"] in (7, 8))]
        total = sum(rep["weight"] for rep in wheel)
        for rep in wheel:
            shares[rep["id"]] = shares.get(rep["id"], 0) + rep["weight"] / total
    for number, settings in enumerate(REPS, 2):
        if number != 6:
            assert abs(counts[number] - shares[number]) <= max(1, settings["weight"]), (number, counts[number], shares[number])
