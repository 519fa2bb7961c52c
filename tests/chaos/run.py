"""One run: load from both sides, faults by the schedule, then quiet, then the checker."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.chaos.client_log import ClientLog, now_ms
from tests.chaos.commands import draw
from tests.chaos.evidence import Evidence, gather
from tests.chaos.faults import Havoc
from tests.chaos.loopback import Origin, open_town
from tests.chaos.person import Person
from tests.chaos.schedule import PROCESSES, PUT_BACK, RARE, SIDES, Fault, draw_schedule
from tests.chaos.stack import open_stack
from tests.chaos.town import Town
from tests.chaos.verdicts import Verdicts, judge
from tests.chaos.watch import StepWatch, wait_until_quiet, watching_steps
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
    """A fault that was done: when it began and was over, and how many seconds later both sides were in step; None where they never were."""

    fault: Fault
    began_s: float
    over_s: float
    in_step_s: float | None


class Done(NamedTuple):
    """The same, while it is not known yet when both were in step."""

    fault: Fault
    began_s: float
    over_s: float
    in_step: "asyncio.Future[float]"


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
    async with watching_steps(town.urls) as watch:
        try:
            done = await harm(town, havoc, plan, watch)
            while min(person.acknowledged for person in people) < plan.commands:
                await wait_for(town, 0.5)
        finally:
            ended.set()
            await asyncio.gather(*load)
            for person in people:
                await person.http.aclose()
                person.log.close()
        quiet_s, left = await wait_until_quiet(town)
    injected = [Injected(*each[:3], None if each.in_step.cancelled() else each.in_step.result()) for each in done]
    evidence: Evidence = await gather(town, havoc.replacements, left)
    return Result(plan, injected, quiet_s, judge(evidence))


def make_person(town: Town, side: str, seed: str) -> Person:
    log = ClientLog(side, town.directory / f"{side}-people.jsonl")
    return Person(side, lambda: town.nodes[side, PROCESSES[0]].address, town.tokens[side], log, Random(f"{seed} {side}"))


async def harm(town: Town, havoc: Havoc, plan: Plan, watch: StepWatch) -> list[Done]:
    """The faults in turn, each when it is due or when the one before is over; an ordinary one that is late by then is left out, so that a
    slow machine has fewer of them and not all at once."""
    now_s = asyncio.get_running_loop().time
    start_s = now_s()
    done = []
    for fault in plan.schedule():
        if is_late(fault, now_s() - start_s):
            continue
        await wait_for(town, start_s + fault.at_s - now_s())
        began_s, began_ms = now_s(), now_ms()
        await havoc.do(fault)
        went_back = fault.side if fault.what == PUT_BACK else ""
        done.append(Done(fault, began_s, now_s(), watch.begin(went_back, began_ms)))
    await wait_for(town, start_s + plan.seconds - now_s())
    return done


def is_late(fault: Fault, at_s: float) -> bool:
    return fault.what not in RARE and at_s > fault.at_s + LATE_S


async def wait_for(town: Town, seconds: float) -> None:
    await town.revive()
    await asyncio.sleep(max(0.0, seconds))
    await town.revive()
