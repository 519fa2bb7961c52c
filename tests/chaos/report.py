"""What a run tells: a table of faults and verdicts by store, the same in chaos.json, and a folder of everything where it failed."""

import json
import shutil
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.run import Injected, Plan, Result
from tests.chaos.schedule import ENDS

FIGURES = Path("chaos.json")
FAILED = Path("chaos-failed")
COUNTED = ("lost", "overwritten", "divergent", "wrongly_applied", "doubled", "leaks", "other", "gone", "forged")
WORDS = {
    "acknowledged": "commands acknowledged",
    "refused": "commands refused in words",
    "unanswered": "commands never answered",
    "lost": "acknowledged and lost",
    "overwritten": "silently overwritten",
    "divergent": "records or writes that differ",
    "wrongly_applied": "wrongly called applied",
    "doubled": "assignments doubled",
    "leaks": "private leaks",
    "other": "anything else amiss",
    "gone": "gone with the older copy, before the peer had it",
    "forged": "forgeries taken by a store that was being restored",
    "quiet_s": "seconds until quiet at the end",
}
SHOWN = 20
Json = dict[str, Any]


def summarise(result: Result) -> Json:
    """The figures of one run."""
    verdicts = result.verdicts
    told: Json = {name: getattr(verdicts, name) for name in ("acknowledged", "refused", "unanswered")}
    told |= {name: len(getattr(verdicts, name)) for name in COUNTED}
    return {
        "seed": result.plan.seed,
        "seconds": result.plan.seconds,
        "commit": read_commit(),
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "faults": {what: summarise_fault(result, what) for what in sorted({each.fault.what for each in result.injected})},
        **told,
        "quiet_s": round(result.quiet_s, 1),
    }


def summarise_fault(result: Result, what: str) -> Json:
    """Of all of the kind, and of those alone that nothing else fell into."""
    times = [each for each in result.injected if each.fault.what == what]
    alone = find_alone(result.injected)
    return {"times": len(times), **measure(times), "alone": measure([each for each in times if each in alone])}


def measure(times: Sequence[Injected]) -> Json:
    measured = [each.in_step_s for each in times if each.in_step_s is not None]
    return {
        "measured": len(measured),
        "in_step_p50_s": round(statistics.median(measured), 1) if measured else None,
        "in_step_max_s": round(max(measured), 1) if measured else None,
    }


def find_alone(injected: Sequence[Injected]) -> list[Injected]:
    """Those that began when both sides were in step after all before, and after which they were again before the next began."""
    alone, settled_s = [], float("-inf")
    for number, each in enumerate(injected):
        in_step_s = each.over_s + each.in_step_s if each.in_step_s is not None else float("inf")
        next_s = injected[number + 1].began_s if number + 1 < len(injected) else float("inf")
        if settled_s <= each.began_s and in_step_s <= next_s:
            alone.append(each)
        settled_s = max(settled_s, in_step_s)
    return alone


def read_commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def write_figures(store: str, figures: Json, path: Path = FIGURES) -> dict[str, Json]:
    """Beside the last ones of the other kind of store; all of them."""
    known: dict[str, Json] = json.loads(path.read_text()) if path.exists() else {}
    known[store] = figures
    path.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    return known


def print_table(console: Console, figures: Mapping[str, Json]) -> None:
    stores = [store for store in ENDS if store in figures]
    table = Table("", *(f"{store}, {figures[store]['seconds']:.0f} s, seed {figures[store]['seed']}" for store in stores), box=None)
    for what in sorted({what for store in stores for what in figures[store]["faults"]}):
        table.add_row(what, *(describe_fault(figures[store]["faults"].get(what)) for store in stores))
    for name, words in WORDS.items():
        table.add_row(words, *(f"{figures[store].get(name, 0):,}" for store in stores))
    console.print(table)


def describe_fault(told: Json | None) -> str:
    if told is None:
        return "none"
    alone = f"; alone {describe_times(told['alone'])}" if told["alone"]["measured"] else ""
    return f"{told['times']} times; in step after {describe_times(told)}{alone}"


def describe_times(told: Json) -> str:
    """Median and most, of how many."""
    return f"{told['in_step_p50_s']} s, at most {told['in_step_max_s']} s ({told['measured']})"


def keep_failed(plan: Plan, directory: Path, defects: Sequence[str]) -> Path:
    """Seed, schedule, logs and both stores, in a folder that can be replayed."""
    folder = FAILED / f"{plan.store}-{plan.seed}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    folder.mkdir(parents=True)
    for each in directory.iterdir():
        if each.is_file():
            shutil.copy(each, folder / each.name)
    for log in (directory / "kafka").glob("*.log"):
        shutil.copy(log, folder / f"kafka-{log.name}")
    (folder / "plan.json").write_text(json.dumps(plan._asdict()) + "\n")
    (folder / "schedule.txt").write_text("".join(f"{fault}\n" for fault in plan.schedule()))
    (folder / "defects.txt").write_text("".join(f"{each}\n" for each in defects))
    return folder


def read_plan(folder: Path) -> Plan:
    """The plan of a run that failed."""
    kept = json.loads((folder / "plan.json").read_text())
    return Plan(**{**kept, "tools": tuple(kept["tools"])})
