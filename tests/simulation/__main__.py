"""`make simulate N=…`: half of the histories are the script with one crash at a point each, half are random; or --every crash point."""

import argparse
import shutil
import sys
import time
from collections import Counter
from itertools import islice
from random import Random

from tests.simulation.histories import Tally, be_quiet, crash_histories, live, parse, random_histories
from tests.simulation.world import make_template


def main() -> None:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--histories", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--every", action="store_true", help="a history for every crash point of the script")
    parser.add_argument("--shard", default="0/1", help="with --every: K/N takes the crash points K, K+N, K+2N …")
    parser.add_argument("--replay", help="one history by its name")
    arguments = parser.parse_args()
    be_quiet()
    template = make_template()
    tally = Tally()
    try:
        for history in choose(arguments, template):
            live(history, template, tally)
    finally:
        shutil.rmtree(template, ignore_errors=True)
    report(tally, arguments.seed)
    sys.exit(1 if tally.failures else 0)


def choose(arguments: argparse.Namespace, template: object) -> list:
    if arguments.replay:
        return [parse(arguments.replay)]
    crashes = crash_histories(arguments.seed, template)
    if arguments.every:
        first, _, step = arguments.shard.partition("/")
        return crashes[int(first) :: int(step)]
    half = arguments.histories // 2
    sample = Random(arguments.seed).sample(crashes, min(half, len(crashes)))
    return sample + list(islice(random_histories(arguments.seed), arguments.histories - len(sample)))


def report(tally: Tally, seed: int) -> None:
    print(f"{tally.histories} histories (seed {seed}), {len(tally.failures)} failed")
    for title, counts in (("points passed", tally.points), ("crashes and unknown commits", tally.struck), ("disasters", tally.faults)):
        print(f"  {title}: {describe(counts)}")
    for name, failure in tally.failures.items():
        print(f"FAILED {name}: {failure[:1500]}\n  again: python -m tests.simulation --replay {name}")


def describe(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common()) or "none"


if __name__ == "__main__":
    main()
