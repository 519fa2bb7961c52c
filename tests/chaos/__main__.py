"""`make chaos SECONDS=… SEED=… STORE=sqlite|postgresql|compose`, or `REPLAY=folder` for the plan of a run that failed. Exits with 1 if the
checker found anything, with 3 if there is no engine for containers."""

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from deploy.kafka.embedded import KafkaUnavailable
from deploy.stack.engine import NO_ENGINE, ComposeFailed, NoEngine, find_engine
from tests.chaos.report import SHOWN, keep_failed, print_table, read_commit, read_plan, summarise, write_figures
from tests.chaos.run import Plan, run
from tests.chaos.schedule import ENDS
from tests.chaos.toxiproxy import ToxiproxyUnavailable


def main() -> int:
    arguments = read_arguments()
    plan = read_plan(arguments.replay) if arguments.replay else make_plan(arguments)
    console = Console()
    console.print(f"{plan.seconds:.0f} s of chaos on {plan.store}, seed {plan.seed}, {len(plan.schedule())} faults")
    logging.getLogger().addHandler(logging.NullHandler())  # what a client says of a broker that was killed is no news
    with tempfile.TemporaryDirectory(prefix="dealbridge-chaos-") as directory:
        try:
            if plan.store == "compose":
                find_engine()
            result = asyncio.run(run(plan, Path(directory)))
        except (KafkaUnavailable, ToxiproxyUnavailable, NoEngine, ComposeFailed) as error:
            console.print(str(error), markup=False)
            return NO_ENGINE if isinstance(error, NoEngine) else 2
        defects = result.verdicts.defects
        print_table(console, write_figures(plan.store, summarise(result)))
        if not defects:
            return 0
        for each in defects[:SHOWN]:
            console.print(each[:600], style="red", markup=False)
        folder = keep_failed(plan, Path(directory), defects)
        console.print(f"{len(defects)} defects; everything is in {folder}; the same again: make chaos REPLAY={folder}")
        return 1


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", default=read_commit(), help="any word; by default the commit's name")
    parser.add_argument("--store", choices=tuple(ENDS), default="sqlite", help="compose: the stack, in containers")
    parser.add_argument("--replay", type=Path, help="the folder of a run that failed")
    parser.add_argument("--tools", help="faults that need something: links, forgery, clocks, log; else all that there are")
    parser.add_argument("--disk", default="", help="a directory of a small filesystem for the stores, which is filled now and then")
    return parser.parse_args()


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Raises SystemExit for a tool that there is not."""
    known = ("links", "forgery") if arguments.store == "compose" else ("links", "clocks", "forgery", "log")
    tools = known if arguments.tools is None else tuple(each for each in arguments.tools.split(",") if each)
    if unknown := set(tools) - set(known):
        sys.exit(f"--tools: with {arguments.store} there is no {', '.join(sorted(unknown))}: name {', '.join(known)}, or nothing")
    if arguments.disk and (arguments.store == "compose" or not Path(arguments.disk).is_dir()):
        sys.exit(f"--disk: {arguments.disk} must be a directory, and the stores not in containers")
    tools += ("disk",) if arguments.disk else ()
    return Plan(arguments.store, arguments.seconds, arguments.seed, tools=tools, disk=arguments.disk)


if __name__ == "__main__":
    sys.exit(main())
