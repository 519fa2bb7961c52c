"""What a run of histories passed and found, and the table of it: event types by outcome, crash points and faults by kind."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared_schema.contract.envelope import CONTROL_TYPES, EVENT_TYPES
from tests.simulation.world import World

ACCOUNT_LINES = 14
OUTCOMES = ("applied", "conflict", "ignored", "parked", "refused")


@dataclass
class Tally:
    """Counts of many histories; those of several processes add up."""

    histories: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    reactions: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        for name in ("histories", "points", "struck", "faults", "types", "outcomes", "reactions"):
            getattr(self, name).update(getattr(other, name))
        self.failures |= other.failures

    def take(self, world: World, kind: str) -> None:
        self.histories[kind] += 1
        self.faults += world.disasters
        self.types += world.cluster.types
        for actor in world.actors:
            self.points += actor.course.kinds
            self.struck += actor.course.struck
            self.reactions += Counter(kind for (kind,) in actor.rows("SELECT kind FROM done_reactions"))
        self.outcomes += read_outcomes(world)


def read_outcomes(world: World) -> Counter[tuple[str, str]]:
    """How many events of each type the peer applied, and of how many it said something else."""
    told, events = world.cluster.told, world.cluster.events
    found = Counter((events[event], outcome) for event, outcome in told if event in events)
    answered = {event for event, _ in told}
    for actor in world.actors:
        removed = {event for (event,) in actor.rows("SELECT event FROM removed_rows")} - answered
        found += Counter((events[event], "applied") for event in removed if event in events)
    return found


def give_account(world: World, lines: int = ACCOUNT_LINES) -> str:
    """The last things that each node did or suffered, for a history that failed."""
    told = []
    for who in dict.fromkeys(who for _, who, _ in world.notes):
        own = [f"    {at_s:9.3f} s  {what}" for at_s, by, what in world.notes if by == who]
        told += [f"  {who}, the last {min(lines, len(own))} of {len(own)}:", *own[-lines:]]
    return "\n".join(told)


def describe(tally: Tally) -> list[str]:
    """The report, line by line."""
    lines = [f"{tally.histories.total():,} histories ({list_counts(tally.histories)}), {len(tally.failures):,} failed"]
    lines += [f"  points passed: {list_counts(tally.points)}"]
    for deed in sorted({deed for deed, _ in tally.struck}):
        by_kind = Counter({kind: count for (done, kind), count in tally.struck.items() if done == deed})
        lines.append(f"  {DEED_WORDS.get(deed, deed)}: {by_kind.total():,} ({list_counts(by_kind)})")
    lines += [f"  faults: {list_counts(tally.faults)}", f"  reactions: {list_counts(tally.reactions)}", *describe_types(tally)]
    return lines


DEED_WORDS = {
    "die": "killed at",
    "freeze": "frozen, and woken after another life began, at",
    "restore": "killed, and the store gone back, at",
    "fail over": "store gone back under the running node at",
    "unknown": "committed, but told that the connection was lost, at",
}


def describe_types(tally: Tally) -> list[str]:
    """Event types by outcome, and how often each was in a topic."""
    lines = [f"  {'type':24}{'in topics':>11}" + "".join(f"{outcome:>11}" for outcome in OUTCOMES)]
    for kind in EVENT_TYPES:
        counts = (tally.outcomes[kind, outcome] for outcome in OUTCOMES)
        lines.append(f"  {kind:24}{tally.types[kind]:>11,}" + "".join(f"{count or '':>11}" for count in counts))
    return lines + [f"  {kind:24}{tally.types[kind]:>11,}" for kind in CONTROL_TYPES]


def list_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common()) or "none"


def list_failures(tally: Tally) -> Iterable[str]:
    for name, failure in tally.failures.items():
        yield f"FAILED {name}: {failure}\n  again: python -m tests.simulation --replay '{name}'"
