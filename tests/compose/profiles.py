"""The same stack with its profiles: life by itself, a proxy in every link, and everything in it killed."""

import asyncio
import tempfile
from pathlib import Path

from tests.chaos.report import keep_failed
from tests.chaos.run import Plan, run
from tests.compose.stand import Stand, check, until

FEW = 3
CHAOS_S = 60


def live(stand: Stand) -> str:
    """With the profile `demo` deals appear and change by themselves, and both sides keep in step."""
    stand.ports["DEMO_PAUSE_S"] = "1"
    stand.choose(["demo"])
    stand.start()

    def shared() -> list[str]:
        here = {each["registration"] for each in stand.partner.get("/shared-deals?status=active&limit=200")["results"]}
        there = {each["registration"] for each in stand.vendor.get("/shared-deals?status=active&limit=200")["results"]}
        return sorted(here & there)

    before = len(shared())
    until("deals register themselves", lambda: len(shared()) >= before + FEW)
    companies = stand.vendor.get("/companies?limit=200")["results"]
    check(any(each["name"] == "Alpina Uhren AG" for each in companies), "the vendor has no sample data")
    stand.stack.run("stop", "--timeout", "10", "demo")
    check(stand.inspect("demo")["State"]["ExitCode"] == 0, "the demo did not stop by itself")
    return f"{len(shared()) - before} registrations by themselves"


def put_proxies_between(stand: Stand) -> str:
    """With the profile `chaos` all links go through Toxiproxy; cutting one there and healing it loses nothing."""
    stand.choose(["chaos"])
    stand.start()
    registration = stand.share()
    stand.script("chaos")
    toggle = ("toxiproxy", "/toxiproxy-cli", "toggle")
    stand.stack.inside(*toggle, "partner-broker")
    stand.edit_both(registration, "while cut")
    until("the partner's sync is unhealthy", lambda: stand.containers()["partner-sync"]["Health"] == "unhealthy")
    stand.stack.inside(*toggle, "partner-broker")
    stand.until_in_step(registration, "while cut")
    stand.stack.inside(*toggle, "vendor-store")
    until("the vendor's API says that it has no store", lambda: stand.vendor.client.get("/deals").status_code == 503)
    stand.stack.inside(*toggle, "vendor-store")
    stand.edit_both(registration, "after the store")
    stand.until_in_step(registration, "while cut", "after the store")
    stand.connect_when_healthy()
    return "a broker's link and a store's link, cut and healed"


def break_it(stand: Stand) -> str:
    """`make chaos STORE=compose`, for a minute, on a stack of its own: nothing that was acknowledged is lost."""
    stand.stack.run("stop", "--timeout", "10")
    with tempfile.TemporaryDirectory(prefix="dealbridge-chaos-") as directory:
        plan = Plan("compose", CHAOS_S, "one", tools=("links", "forgery"))
        result = asyncio.run(run(plan, Path(directory)))
        defects = result.verdicts.defects
        check(not defects, f"{'; '.join(defects[:3])}; see {keep_failed(plan, Path(directory), defects)}" if defects else "")
    check(result.verdicts.acknowledged > 0, "nothing was acknowledged")
    return f"{len(result.injected)} faults, {result.verdicts.acknowledged} commands acknowledged, none lost"
