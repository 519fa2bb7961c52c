"""One run: load from both sides, faults by the schedule, then quiet, then the checker."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.chaos.client_log import ClientLog
from tests.chaos.commands import draw
from tests.chaos.evidence import Evidence, gather
from tests.chaos.faults import Havoc
from tests.chaos.loopback import Origin, open_town
from tests.chaos.person import Person
from tests.chaos.schedule import PROCESSES, RARE, SIDES, Fault, draw_schedule
from tests.chaos.stack import open_stack
from tests.chaos.town import Town
from tests.chaos.verdicts import Verdicts, judge
from tests.chaos.watch import time_until_in_step, wait_until_quiet
from tests.postgres import EmbeddedPostgres

LATE_S = 3.0


class Plan(NamedTuple):
    """What a run is made of: the same plan is the same schedule. `broken`: per side a wrong variant that its processes are to be;
    `commands`: the load goes on until so many were acknowledged to each side; `tools`: of schedule.TOOLED; `disk`: a directory of a small
    filesystem for the stores."""

    store: str
    seconds: float
    seed: str
    broken: Mapping[str, str] = {}
    commands: int = 0
    tools: Sequence[str] = ()
    disk: str = ""

    def schedule(self) -> list[Fault]:
        return draw_schedule(self.seed, self.seconds, self.store, self.tools)

    def origin(self, directory: Path, postgres: EmbeddedPostgres | None) -> Origin:
        return Origin(self.store, directory, postgres, self.broken, self.tools, Path(self.disk) if self.disk else directory)


class Injected(NamedTuple):
    """A fault that was done, and how many seconds later both sides were in step; None where the next fault came before."""

    fault: Fault
    in_step_s: float | None


class Result(NamedTuple):
    plan: Plan
    injected: Sequence[Injected]
    quiet_s: float
    verdicts: Verdicts


async def run(plan: Plan, directory: Path) -> Result:
    """Leaves stores, logs and the people's log in the directory."""
    async with open_place(plan, directory) as town:
        return await run_in(plan, town)


@asynccontextmanager
async def open_place(plan: Plan, directory: Path) -> AsyncIterator[Town]:
    if plan.store == "compose":
        async with open_stack(directory) as stack:
            yield stack
        return
    disk = Path(plan.disk).resolve() if plan.disk else None
    with EmbeddedPostgres(disk=disk) if plan.store == "postgresql" else nullcontext() as postgres:
        async with open_town(plan.origin(directory, postgres)) as town:
            yield town


async def run_in(plan: Plan, town: Town) -> Result:
    havoc = Havoc(town)
    people = [make_person(town, side, plan.seed) for side in SIDES]
    ended = asyncio.Event()
    load = [asyncio.create_task(person.work(draw, ended)) for person in people]
    try:
        injected = await harm(town, havoc, plan)
        while min(person.acknowledged for person in people) < plan.commands:
            await wait_for(town, 0.5)
    finally:
        ended.set()
        await asyncio.gather(*load)
        for person in people:
            await person.http.aclose()
            person.log.close()
    quiet_s, left = await wait_until_quiet(town)
    evidence: Evidence = await gather(town, havoc.replacements, left)
    return Result(plan, injected, quiet_s, judge(evidence))


def make_person(town: Town, side: str, seed: str) -> Person:
    log = ClientLog(side, town.directory / f"{side}-people.jsonl")
    return Person(side, lambda: town.nodes[side, PROCESSES[0]].address, town.tokens[side], log, Random(f"{seed} {side}"))


async def harm(town: Town, havoc: Havoc, plan: Plan) -> list[Injected]:
    """The faults in turn, each when it is due or when the one before is over; an ordinary one that is late by then is left out, so that a
    slow machine has fewer of them and not all at once."""
    now_s = asyncio.get_running_loop().time
    began_s = now_s()
    schedule, injected = plan.schedule(), []
    for number, fault in enumerate(schedule):
        if is_late(fault, now_s() - began_s):
            continue
        await wait_for(town, began_s + fault.at_s - now_s())
        await havoc.do(fault)
        upcoming = (each.at_s for each in schedule[number + 1 :] if not is_late(each, now_s() - began_s))
        injected.append(Injected(fault, await measure(town, began_s + next(upcoming, plan.seconds) - now_s())))
    await wait_for(town, began_s + plan.seconds - now_s())
    return injected


def is_late(fault: Fault, at_s: float) -> bool:
    return fault.what not in RARE and at_s > fault.at_s + LATE_S


async def wait_for(town: Town, seconds: float) -> None:
    await town.revive()
    await asyncio.sleep(max(0.0, seconds))
    await town.revive()


async def measure(town: Town, seconds: float) -> float | None:
    """How long it takes until both are in step, if that is less than the time that there is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            return await time_until_in_step(town)
    return None
