"""Histories over several processes, in chunks."""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.histories import History, be_quiet, live
from tests.simulation.tally import Tally

CHUNK = 10


def live_all(histories: Sequence[History], template: Path, jobs: int) -> Tally:
    """What all of them passed and found; every failure is told at once."""
    whole = Tally()
    chunks = [histories[at : at + CHUNK] for at in range(0, len(histories), CHUNK)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=be_quiet) as pool:
        for done in pool.map(live_some, chunks, [template] * len(chunks)):
            whole.add(done)
            for name, failure in done.failures.items():
                said = failure.partition("\n")[0][:200]
                print(f"{whole.histories.total():,} of {len(histories):,}: {name} failed: {said}", file=sys.stderr, flush=True)
    return whole


def live_some(histories: Sequence[History], template: Path) -> Tally:
    tally = Tally()
    for history in histories:
        live(history, template, tally)
    return tally
