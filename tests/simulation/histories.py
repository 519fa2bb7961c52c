"""Histories to live through: the script with one crash at each point of either node, and random ones with several crashes and faults."""

import hashlib
import logging
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from shared_schema.contract.registers import Side
from tests.simulation.checker import check
from tests.simulation.script import play
from tests.simulation.world import Plan, World

CRASHES_MAX = 4


class History(NamedTuple):
    """What makes one history: repeated from its name, it is the same again."""

    seed: int
    side: Side | None = None
    point: int | None = None

    @property
    def name(self) -> str:
        return f"{self.seed}" if self.point is None else f"{self.seed}:{self.side}:{self.point}"


@dataclass
class Tally:
    """What a run of histories passed, and what it found."""

    histories: int = 0
    points: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)


def parse(name: str) -> History:
    """A history from its name: SEED, or SEED:SIDE:POINT."""
    seed, _, rest = name.partition(":")
    if not rest:
        return History(int(seed))
    side, _, point = rest.partition(":")
    if side not in ("partner", "vendor"):
        raise ValueError(f"{name} is no history: use SEED, or SEED:partner:POINT, or SEED:vendor:POINT")
    return History(int(seed), side, int(point))  # type: ignore[arg-type]  # checked above


def make_world(history: History, template: Path) -> World:
    if history.side is not None and history.point is not None:
        return World(history.seed, Plan(history.side, (history.point,)), template=template)
    random = Random(history.seed)
    side: Side = random.choice(("partner", "vendor"))
    targets = sorted(random.randrange(1, 1_500) for _ in range(random.randint(1, CRASHES_MAX)))
    return World(history.seed, Plan(side, tuple(targets)), faults=True, template=template)


def live(history: History, template: Path, tally: Tally) -> str:
    """Live one history and check it; the digest of what it left behind."""
    world = make_world(history, template)
    try:
        world.run(play)
        check(world)
        return digest(world)
    except Exception as error:  # whatever it is, it is what the simulation looks for
        last = traceback.extract_tb(error.__traceback__)[-1]
        tally.failures[history.name] = f"{type(error).__name__}: {error} ({last.filename.rpartition('/')[2]}:{last.lineno})"
        return ""
    finally:
        take(world, tally)
        world.clean_up()


def take(world: World, tally: Tally) -> None:
    tally.histories += 1
    for actor in world.actors:
        tally.points += actor.kinds
        tally.struck += Counter(actor.struck)
    tally.faults += world.disasters


def digest(world: World) -> str:
    """A hash of both stores' shared records and of the broker's logs."""
    whole = hashlib.sha256()
    for actor in world.actors:
        whole.update(repr(actor.rows("SELECT uid, document, hash FROM shared_records ORDER BY uid")).encode())
    for name, log in sorted(world.cluster.logs.items()):
        whole.update(repr((name, [(each.offset, each.value, each.headers) for each in log.records])).encode())
    return whole.hexdigest()


def count_points(seed: int, template: Path) -> dict[Side, int]:
    """How many points each node passes in the script when nobody dies."""
    world = World(seed, template=template)
    try:
        world.run(play)
        check(world)
        return {"partner": world.partner.fate.passed, "vendor": world.vendor.fate.passed}
    finally:
        world.clean_up()


def crash_histories(seed: int, template: Path) -> list[History]:
    """One history for every point of the script."""
    return [History(seed, side, point) for side, passed in count_points(seed, template).items() for point in range(1, passed + 1)]


def random_histories(seed: int) -> Iterator[History]:
    random = Random(seed)
    while True:
        yield History(random.randrange(1, 2**31))


def be_quiet() -> None:
    """The runtime's own log lines about all the outages are not what anybody looks for here."""
    logging.disable(logging.CRITICAL)
