"""`make simulate N=…`: a third of the histories are scripts with one stroke, a third with two, a third random; or --every point struck."""

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from tests.simulation.fate import DEEDS
from tests.simulation.histories import History, all_points, be_quiet, pairs, parse, random_histories, single, singles, twice
from tests.simulation.jobs import live_all
from tests.simulation.script import SCRIPTS
from tests.simulation.tally import describe, list_failures
from tests.simulation.template import drop_template, make_template


def main() -> None:
    arguments = read_arguments()
    be_quiet()
    template = make_template()
    began_s = time.monotonic()
    try:
        tally = live_all(choose(arguments, template), template, arguments.jobs)
    finally:
        drop_template(template)
    print(*list_failures(tally), *describe(tally), sep="\n")
    print(f"  seed {arguments.seed}, {arguments.jobs} processes, {time.monotonic() - began_s:,.0f} s")
    sys.exit(1 if tally.failures else 0)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--histories", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--every", action="store_true", help="a history for every point of every script, killed there")
    parser.add_argument("--script", choices=list(SCRIPTS), action="append", help="with --every: only these")
    parser.add_argument("--deed", choices=list(DEEDS), default="die", help="with --every: what happens at the point")
    parser.add_argument("--only", choices=["single", "pairs", "twice", "random"], help="histories of one kind")
    parser.add_argument("--replay", help="one history by its name")
    return parser.parse_args()


def choose(arguments: argparse.Namespace, template: Path) -> Sequence[History]:
    seed, wanted = arguments.seed, arguments.histories
    if arguments.replay:
        return [parse(arguments.replay)]
    if arguments.only == "random":
        return list(islice(random_histories(seed), wanted))
    places = all_points(seed, template, arguments.script or list(SCRIPTS))
    if arguments.every:
        return [single(seed, place, arguments.deed) for place in places]
    kinds = {"single": singles(seed, places), "pairs": pairs(seed, places), "twice": twice(seed, places), "random": random_histories(seed)}
    if arguments.only:
        return list(islice(kinds[arguments.only], wanted))
    third = wanted // 3
    return [*islice(kinds["single"], third), *islice(kinds["pairs"], third), *islice(kinds["random"], wanted - 2 * third)]


if __name__ == "__main__":
    main()
