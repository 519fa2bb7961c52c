"""A sample of the simulation for each commit, and the wrong variants that it must catch."""

import logging
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from shared_schema.contract.envelope import EVENT_TYPES
from tests.simulation import scenes, world
from tests.simulation.checker import check
from tests.simulation.histories import History, Tally, be_quiet, crash_histories, live, random_histories
from tests.simulation.script import play
from tests.simulation.variants import VARIANTS
from tests.simulation.world import World, make_template

CRASHES, RANDOM = 50, 30
TRIES, IMPATIENT_S = 60, 200
SCRIPTED = {
    "7 acknowledgement is the highest number": scenes.lose_the_first,
    "9 a stale relay may mark": scenes.wake_a_stale_relay,
    "10 heartbeat names only the live epoch": scenes.lose_an_epoch,
    "15 parked lost when its parent comes": scenes.lose_a_parent,
}


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    directory = make_template()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    be_quiet()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def seed() -> int:
    """Another sample for each commit."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return int(head[:8] or "7", 16)


def test_one_seed_is_one_history(template: Path) -> None:
    tally = Tally()
    first, again, other = (live(History(seed), template, tally) for seed in (3, 3, 4))
    assert not tally.failures
    assert first == again != other


def test_the_script_uses_every_type_of_event(template: Path) -> None:
    whole = World(3, template=template)
    try:
        whole.run(play)
        assert set(EVENT_TYPES) <= whole.cluster.types
        assert {"sync.acknowledged", "sync.heartbeat"} <= whole.cluster.types
    finally:
        whole.clean_up()


def test_every_sampled_crash_point_leaves_both_sides_whole(template: Path, seed: int) -> None:
    tally = Tally()
    points = crash_histories(seed, template)
    assert len(points) > 2_000
    for history in Random(seed).sample(points, CRASHES):
        live(history, template, tally)
    assert not tally.failures
    assert tally.struck.total() >= CRASHES * 0.9


def test_random_histories_with_crashes_and_faults_lose_nothing(template: Path, seed: int) -> None:
    tally = Tally()
    for history in islice(random_histories(seed), RANDOM):
        live(history, template, tally)
    assert not tally.failures
    assert tally.faults["lose_tail"] and tally.faults["outage"] and tally.struck


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in SCRIPTED])
def test_a_wrong_variant_is_caught(template: Path, name: str) -> None:
    for history in islice(random_histories(3), TRIES):
        tally = Tally()
        with VARIANTS[name](), patch.object(world, "QUIET_S", IMPATIENT_S):
            live(history, template, tally)
        if tally.failures:
            return
    pytest.fail(f"{TRIES} histories did not notice it")


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_wrong_variant_that_needs_a_rare_coincidence_is_caught(template: Path, name: str) -> None:
    outlive(template, SCRIPTED[name])
    with VARIANTS[name](), pytest.raises(AssertionError):
        outlive(template, SCRIPTED[name])


def outlive(template: Path, scene: Callable[[World], Awaitable[None]]) -> None:
    staged = World(5, template=template)
    try:
        staged.run(scene)
        check(staged)
    finally:
        staged.clean_up()
