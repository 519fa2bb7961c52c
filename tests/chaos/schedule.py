"""Which fault happens when: a pure function of the seed, the time and the kind of store."""

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

SIDES = ("partner", "vendor")
PROCESSES = ("web", "sync 1", "sync 2")
# Where a side's links lead, by what its store is: a file, a PostgreSQL beside it, or the one of its compose stack.
ENDS = {"sqlite": ("broker",), "postgresql": ("broker", "database"), "compose": ("broker", "database")}
OF_ONE_SIDE = ("process", "node", "poison", "link", "clock", "event", "records", "retention", "tail")
LEAST_S = 10
CALM_S = 0.06  # this part of the time at the end has no fault


class Fault(NamedTuple):
    """`at_s` after the load began; `process` of the side where it is about one, or the end of its link; `lasts_s` until it is over."""

    at_s: float
    what: str
    side: str = ""
    process: str = ""
    lasts_s: float = 0.0

    def __str__(self) -> str:
        where = " ".join(each for each in (self.side, self.process) if each)
        return f"{self.at_s:7.1f} s  {self.what}{f' ({where})' if where else ''} for {self.lasts_s:.1f} s"


PUT_BACK = "older copy put back"
RARE = ("copy made", PUT_BACK, "topic deleted")  # each at its own time, come what may
# By weight; what takes longest is rarest. A lease runs for ten seconds: some freezes outlast it.
ORDINARY = {
    "process killed": 8,
    "process frozen": 5,
    "node killed": 2,
    "broker killed": 3,
    "broker frozen": 1,
    "database killed": 4,
    "poison sent": 1,
    "records sent twice": 1,
    "retention passed": 1,
}
# Drawn only where a plan names the tool: Toxiproxy, a clock that can be moved, a forger with a way to the broker, the broker's files, a
# small filesystem.
TOOLED = {
    "links": {
        "link cut": 3,
        "link silent": 2,
        "link silent one way": 1,
        "link silent the other way": 1,
        "link slow": 3,
        "link narrow": 2,
        "link reset": 2,
        "link closes slowly": 1,
    },
    "clocks": {"clock ahead": 2, "clock behind": 2},
    "forgery": {"event forged": 2},
    "log": {"tail lost": 2},
    "disk": {"disk full": 3},
}
LASTS_S = {
    "link cut": (0.2, 10.0),
    "link silent": (1.0, 15.0),
    "link silent one way": (1.0, 15.0),
    "link silent the other way": (1.0, 15.0),
    "link slow": (3.0, 15.0),
    "link narrow": (3.0, 15.0),
    "link reset": (0.2, 2.0),
    "link closes slowly": (1.0, 8.0),
    "clock ahead": (1.0, 15.0),
    "clock behind": (1.0, 15.0),
    "event forged": (0.0, 0.0),
    "disk full": (0.5, 8.0),
    "process killed": (0.0, 3.0),
    "process frozen": (0.5, 15.0),
    "node killed": (0.5, 8.0),
    "broker killed": (0.5, 8.0),
    "broker frozen": (1.0, 10.0),
    "database killed": (0.0, 4.0),
    "poison sent": (0.0, 0.0),
    "records sent twice": (0.0, 0.0),
    "retention passed": (0.5, 6.0),
    "tail lost": (0.5, 4.0),
}


def draw_schedule(seed: str, seconds: float, store: str, tools: Iterable[str] = ()) -> list[Fault]:
    """Faults in the order in which they begin: each side's store put back once from an older copy, one topic lost, and as many of the
    ordinary ones as fit, with those of the tools; none in less than ten seconds. Gaps are short and long, so that some hit what is still
    recovering and some leave it time."""
    if seconds < LEAST_S:
        return []
    random = Random(f"{seed} {seconds} {store}")
    weights = {what: weight for what, weight in ORDINARY.items() if "database" in ENDS[store] or what != "database killed"}
    for tool in tools:
        weights |= TOOLED[tool]
    faults = list(draw_rare(random, seconds))
    at_s = 2.0
    while at_s < seconds * (1 - CALM_S) - 2:
        fault = draw_ordinary(random, at_s, weights, seconds)
        faults.append(fault._replace(process=random.choice(ENDS[store])) if fault.what.startswith("link") else fault)
        at_s += random.uniform(0.5, 4) if random.random() < 0.4 else random.uniform(8, 18) * min(1.0, seconds / 120)
    return sorted(faults)


def draw_ordinary(random: Random, at_s: float, weights: dict[str, int], seconds: float) -> Fault:
    (what,) = random.choices(list(weights), weights=list(weights.values()))
    least_s, most_s = LASTS_S[what]
    side = random.choice(SIDES) if what.startswith(OF_ONE_SIDE) else ""
    process = random.choice(PROCESSES) if what.startswith("process") else ""
    if process == "web":
        most_s = min(most_s, 5.0)  # the people's requests wait for it
    return Fault(at_s, what, side, process, random.uniform(least_s, min(most_s, max(least_s, seconds / 12))))


def draw_rare(random: Random, seconds: float) -> Iterator[Fault]:
    """A store is put back to a copy that is some seconds old; the second copy is made when the first store has long been mended."""
    first = random.choice(SIDES)
    second = random.choice(SIDES)
    for side, begin, end in ((first, 0.15, 0.35), (second, 0.62, 0.82)):
        replaced_s = seconds * random.uniform((begin + end) / 2, end)
        yield Fault(max(seconds * begin, replaced_s - random.uniform(3, 30)), "copy made", side)
        yield Fault(replaced_s, PUT_BACK, side, "", random.uniform(0, 3))
    yield Fault(seconds * random.uniform(0.42, 0.55), "topic deleted", random.choice(SIDES), "", random.uniform(0, 4))
