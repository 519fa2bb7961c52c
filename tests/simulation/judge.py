"""Which history catches a wrong variant of the runtime: a scene that was written for it, or else the first of many."""

from collections.abc import Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from tests.simulation import scenes, world
from tests.simulation.agreeing import agree
from tests.simulation.checker import check
from tests.simulation.histories import History, live, random_histories, single
from tests.simulation.script import SCRIPTS, Script
from tests.simulation.tally import Tally
from tests.simulation.variants import VARIANTS
from tests.simulation.world import World

TRIES, IMPATIENT_S = 60, 200
SEED = 5
SCENES: dict[str, Script] = {
    "6 epoch from the store": Script("bare", scenes.lose_a_second_life),
    "7 acknowledgement is the highest number": Script("bare", scenes.lose_the_first),
    "8 rows removed at publish": Script("bare", scenes.lose_the_first),
    "9 a stale relay may mark": Script("bare", scenes.wake_a_stale_relay),
    "10 heartbeat names only the live epoch": Script("bare", scenes.lose_an_epoch),
    "11 void for the running epoch": Script("bare", scenes.mark_late),
    "12 mark before publish": Script("bare", scenes.refuse_sends),
    "15 parked lost when its parent comes": SCRIPTS["parent"],
    "15 nobody is told what is parked": Script("shared", scenes.park_and_tell),
    "17 reaction not unique": SCRIPTS["share"],
    "17 a reaction is removed after it was run": Script("shared", scenes.react_at_once),
    "19 erased is not absorbing": SCRIPTS["erase"],
    "20 a peer that went back is ignored": SCRIPTS["revive"],
    "own: private notes are told": SCRIPTS["talk"],
    "own: an acknowledged note is not written": Script("shared", scenes.write_notes),
    "own: a note is written twice": Script("shared", scenes.write_notes),
    "own: outcomes are not waited for": Script("shared", scenes.hold_back_an_outcome),
    "own: a lease astray is waited for": Script("shared", scenes.turn_the_clock_back),
}


def play_scene(scene: Script, template: Path) -> None:
    """Play one scene and check what it leaves; raises what it breaks."""
    staged = World(SEED, template, scene.stage, rules=scene.rules)
    try:
        staged.run(scene.play, None, agree)
        check(staged)
    finally:
        staged.clean_up()


def find_killer(variant: str, template: Path) -> str | None:
    """What catches the variant, and the promise that is broken; None if it survives."""
    with VARIANTS[variant](), patch.object(world, "QUIET_S", IMPATIENT_S):
        if variant in SCENES:
            return describe(SCENES[variant].play.__name__, catch(SCENES[variant], template))
        for history in islice(many_histories(template), TRIES):
            tally = Tally()
            live(history, template, tally)
            if tally.failures:
                return describe(history.name, tally.failures[history.name].partition("\n")[0])
    return None


def catch(scene: Script, template: Path) -> str | None:
    try:
        play_scene(scene, template)
    except Exception as error:  # whatever the checker, or the runtime, says to it
        return f"{type(error).__name__}: {error}"
    return None


def describe(name: str, broken: str | None) -> str | None:
    return broken and f"{name} ({broken[:110]})"


def many_histories(template: Path) -> Iterator[History]:
    """Random ones, and a script with one crash, in turn."""
    drawn = Random(SEED)
    points = [(play, who, point) for play in ("share", "talk") for who in ("partner", "vendor") for point in range(1, 300)]
    crashes = (single(SEED, drawn.choice(points)) for _ in range(TRIES))
    pairs: Any = zip_longest(random_histories(SEED), crashes)
    return (each for each in chain.from_iterable(pairs) if each is not None)
