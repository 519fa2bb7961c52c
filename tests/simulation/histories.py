"""Histories to live through: every script with one stroke at each point of each node, with two by sampling, and random ones with several
strokes and faults. A history is repeated from its name."""

import logging
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.simulation import workload
from tests.simulation.agreeing import agree
from tests.simulation.checker import check
from tests.simulation.fate import BACKWARDS, DEEDS, Deed, Stroke
from tests.simulation.harm import befall
from tests.simulation.script import SCRIPTS
from tests.simulation.tally import Tally, give_account
from tests.simulation.world import Rules, World

RANDOM = "random"
STROKES_MAX = 3
POINTS_RANDOM = 500
BACK_MAX = 30
BACK_FAR = 500  # more commits than most histories have: a store may go back to any of its own, and to the stage before all
# What a stroke is that is drawn: each as often as it stands here.
DRAWN: tuple[Deed, ...] = ("die", "die", "die", "die", "freeze", "freeze", "restore", "fail over")
APART_MAX = 600
STROKE = re.compile(r"^(?P<who>[a-z]+)@(?P<point>\d+)(=(?P<deed>[a-z ]+?)(-(?P<back>\d+))?)?$")


class Planned(NamedTuple):
    """A stroke, and whose."""

    who: str
    stroke: Stroke

    @property
    def name(self) -> str:
        point, deed, back = self.stroke
        return f"{self.who}@{point}" + ("" if deed == "die" else f"={deed}" if deed == "freeze" else f"={deed}-{back}")


class History(NamedTuple):
    """What makes one history: repeated from its name, it is the same again."""

    play: str
    seed: int
    planned: tuple[Planned, ...] = ()

    @property
    def name(self) -> str:
        return ":".join((self.play, str(self.seed), *(each.name for each in self.planned)))

    @property
    def kind(self) -> str:
        if self.play.startswith(RANDOM):
            return "random"
        return ("of a script", "of a script with one stroke", "of a script with two")[min(len(self.planned), 2)]


def parse(name: str) -> History:
    """A history from its name: PLAY:SEED, then :NODE@POINT, NODE@POINT=freeze, NODE@POINT=restore-BACK for each stroke."""
    play, _, rest = name.partition(":")
    seed, *strokes = rest.split(":")
    if (play not in SCRIPTS and not play.startswith(RANDOM)) or not seed.isdecimal():
        raise ValueError(f"{name} is no history: begin with {', '.join(SCRIPTS)} or {RANDOM}, a colon and the seed")
    return History(play, int(seed), tuple(parse_stroke(each) for each in strokes))


def parse_stroke(text: str) -> Planned:
    found = STROKE.match(text)
    deed: Any = found and (found["deed"] or "die")
    if found is None or deed not in DEEDS:
        raise ValueError(f"{text} is no stroke: use NODE@POINT, NODE@POINT=freeze, NODE@POINT=restore-BACK or NODE@POINT=fail over-BACK")
    return Planned(found["who"], Stroke(int(found["point"]), deed, int(found["back"] or 1)))


def make_world(history: History, template: Path) -> World:
    strokes: dict[str, list[Stroke]] = {}
    for who, stroke in history.planned:
        strokes.setdefault(who, []).append(stroke)
    stage = SCRIPTS[history.play].stage if history.play in SCRIPTS else history.play.partition("-")[2] or "shared"
    rules = SCRIPTS[history.play].rules if history.play in SCRIPTS else Rules()
    return World(history.seed, template, stage, strokes, rules)


def live(history: History, template: Path, tally: Tally) -> World:
    """Live one history and check it; the world as it was left, its stores gone."""
    world = make_world(history, template)
    try:
        if history.play in SCRIPTS:
            world.run(SCRIPTS[history.play].play, None, agree)
        else:
            world.run(workload.live, befall, agree)
        check(world)
        tally.take(world, history.kind)
    except Exception as error:  # whatever it is, it is what the simulation looks for
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"({last.filename.rpartition('/')[2]}:{last.lineno})"
        tally.histories[history.kind] += 1
        tally.failures[history.name] = f"{type(error).__name__}: {str(error)[:1200]} {where}\n{give_account(world)}"
    finally:
        world.clean_up()
    return world


def count_points(play: str, seed: int, template: Path) -> dict[str, int]:
    """How many points each node passes in a script when nothing happens to it; raises what the script itself breaks."""
    tally = Tally()
    world = live(History(play, seed), template, tally)
    if tally.failures:
        raise AssertionError(f"{play} fails by itself: {tally.failures}")
    return {actor.name: actor.course.passed for actor in world.actors}


def all_points(seed: int, template: Path, scripts: Sequence[str] = tuple(SCRIPTS)) -> list[tuple[str, str, int]]:
    """Every (script, node, point)."""
    found = []
    for play in scripts:
        for who, passed in count_points(play, seed, template).items():
            found += [(play, who, point) for point in range(1, passed + 1)]
    return found


def single(seed: int, place: tuple[str, str, int], deed: Deed = "die", back: int = 1) -> History:
    play, who, point = place
    return History(play, seed, (Planned(who, Stroke(point, deed, back)),))


def singles(seed: int, places: Sequence[tuple[str, str, int]]) -> Iterator[History]:
    """One stroke in one script, drawn."""
    random = Random(f"singles {seed}")
    while True:
        play, who, point = random.choice(places)
        yield History(play, seed, (draw_stroke(random, who, point),))


def pairs(seed: int, places: Sequence[tuple[str, str, int]]) -> Iterator[History]:
    """Two strokes in one script, drawn."""
    random = Random(f"pairs {seed}")
    by_play: dict[str, list[tuple[str, str, int]]] = {}
    for place in places:
        by_play.setdefault(place[0], []).append(place)
    while True:
        play = random.choice(places)[0]
        drawn = (draw_stroke(random, who, point) for _, who, point in random.sample(by_play[play], 2))
        yield History(play, seed, tuple(sorted(drawn)))


def twice(seed: int, places: Sequence[tuple[str, str, int]]) -> Iterator[History]:
    """One store that goes back twice in one script, the second time soon after the first, drawn."""
    random = Random(f"twice {seed}")
    while True:
        play, who, point = random.choice(places)
        points = (point, point + random.randint(1, APART_MAX))
        strokes = [Stroke(each, random.choice(BACKWARDS), random.randint(1, BACK_MAX)) for each in points]
        yield History(play, seed, tuple(Planned(who, each) for each in strokes))


def draw_stroke(random: Random, who: str, point: int) -> Planned:
    return Planned(who, Stroke(point, random.choice(DRAWN), random.randint(1, random.choice((BACK_MAX, BACK_FAR)))))


def random_histories(seed: int) -> Iterator[History]:
    random = Random(f"random {seed}")
    while True:
        stage, nodes = random.choice((("shared", ("partner", "vendor")),) * 3 + (("three", ("partner", "second", "vendor")),))
        planned = [
            draw_stroke(random, random.choice(nodes), random.randrange(1, POINTS_RANDOM)) for _ in range(random.randint(1, STROKES_MAX))
        ]
        yield History(f"{RANDOM}-{stage}", random.randrange(1, 2**31), tuple(sorted(planned)))


def be_quiet() -> None:
    """The runtime's own log lines about all the outages are not what anybody looks for here."""
    logging.disable(logging.CRITICAL)
