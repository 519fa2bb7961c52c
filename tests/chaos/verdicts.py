"""The checker of a run: which promise was broken how often, with what shows it. It reads rows, bytes and the people's own log, and shares
no code with what it checks beyond the contract's types."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from shared_schema.contract.documents import Document
from shared_schema.contract.registers import Register, encode_value, side_of
from shared_schema.contract.topics import other
from tests import checker
from tests.chaos.client_log import Command, Context, Reached, Written
from tests.chaos.evidence import Evidence
from tests.chaos.faults import MARK, Replacement
from tests.chaos.forgery import IDS, find_claimed, find_taken
from tests.checker import Broken, Store
from tests.stores import StoreCopy

SECRET = "secret-"
WRITES = """SELECT uid, field, value, incarnation, counter FROM property_history
    WHERE field IN ('name', 'amount', 'close_date', 'next_step') ORDER BY physical DESC, logical DESC"""
REFUSED = f"SELECT uid, field, reason FROM refusals WHERE event NOT LIKE '{IDS}%'"
PARKED = "SELECT reason, detail, payload FROM parked"
ERASED = """WITH RECURSIVE leads(id) AS (SELECT ?1 UNION SELECT merged_into FROM deals JOIN leads ON deals.id = leads.id)
    SELECT 1 FROM shared_deals JOIN leads ON deal_id = leads.id WHERE state = 'erased'"""
TWICE = "SELECT registration FROM assignments WHERE automatic GROUP BY registration, turn HAVING count(*) > 1"


class Verdicts(NamedTuple):
    """What was found of each kind, as sentences. `gone`: acknowledged by a store that was then replaced by an older copy, before the peer
    had it; `forged`: taken of a forger by a store that was being restored, and what that covered. Both are no
    defects, and are counted apart. `other`: whatever else is not as it must be."""

    acknowledged: int
    refused: int
    unanswered: int
    gone: Sequence[str]
    lost: Sequence[str]
    overwritten: Sequence[str]
    divergent: Sequence[str]
    wrongly_applied: Sequence[str]
    doubled: Sequence[str]
    leaks: Sequence[str]
    other: Sequence[str]
    forged: Sequence[str]

    @property
    def defects(self) -> list[str]:
        kinds = ("lost", "overwritten", "divergent", "wrongly_applied", "doubled", "leaks", "other")
        return [f"{kind}: {each}" for kind in kinds for each in getattr(self, kind)]


class Stored:
    """A store's documents by uid, decoded once, and the registrations that are no longer shared."""

    def __init__(self, store: StoreCopy) -> None:
        self.side = store.side
        self.store = store
        rows = store.rows("SELECT uid, registration, document FROM shared_records")
        self.documents = {uid: Document.decode(document) for uid, _, document in rows}
        self.registrations = {uid: registration or uid for uid, registration, _ in rows}

    def covers(self, uid: str, field: str, dot: tuple[str, int]) -> bool:
        """Whether this store has had a write, or what it was in was erased."""
        document = self.documents.get(uid)
        return document is not None and (document.is_erased(field) or document.get(field).context.get(dot[0], 0) >= dot[1])

    def register(self, uid: str, field: str) -> Register:
        document = self.documents.get(uid)
        return document.get(field) if document else Register({}, ())


def judge(evidence: Evidence) -> Verdicts:
    stores = {side: Stored(store) for side, store in evidence.stores.items()}
    unshared = checker.unshared_registrations(*evidence.stores.values())
    trial = Trial(evidence, stores, unshared, [(each, Stored(each.peer)) for each in evidence.replacements])
    lost, gone = trial.find_lost()
    overwritten, forged_away = trial.find_overwritten()
    results = [command.result for command in evidence.commands]
    return Verdicts(
        results.count("acknowledged"),
        results.count("refused"),
        results.count("unanswered"),
        gone,
        lost,
        overwritten,
        list(trial.find_divergent()),
        list(trial.find_wrongly_applied()),
        [f"{registration} was assigned twice" for (registration,) in stores["vendor"].store.rows(TWICE)],
        list(trial.find_leaks()),
        list(trial.find_other()),
        [*trial.forgeries[1], *forged_away],
    )


class Trial:
    """The evidence with what is read of it once."""

    def __init__(
        self, evidence: Evidence, stores: dict[str, Stored], unshared: set[str], replaced: list[tuple[Replacement, Stored]]
    ) -> None:
        self.evidence = evidence
        self.stores = stores
        self.unshared = unshared
        self.replaced = replaced
        self.restored = {each.side for each in evidence.replacements}
        self.forgeries = find_taken(evidence.stores)
        self.claimed = find_claimed(evidence.stores)
        self.pair: tuple[StoreCopy, StoreCopy] = (evidence.stores["partner"], evidence.stores["vendor"])

    def find_lost(self) -> tuple[list[str], list[str]]:
        """Acknowledged writes that either store does not know; and those that went with an older copy."""
        lost, gone = [], []
        for command in self.evidence.commands:
            if command.result == "acknowledged":
                for missing, excused in self.find_missing(command):
                    (gone if excused else lost).append(f"{command.side}: {command.do} at {command.asked_ms}: {missing}")
        return lost, gone

    def find_missing(self, command: Command) -> Iterator[tuple[str, bool]]:
        """What is missing of one command, and whether it is excused."""
        if command.private is not None and not self.has_private(command):
            yield f"the private note {command.private!r}", any(is_within(command, each) for each, _ in self.replaced)
        for reached in command.reached:
            for side, missing, excused in self.find_uncovered(command, reached):
                yield f"{side} lacks {missing} of {reached[:2]}", excused

    def find_uncovered(self, command: Command, reached: Reached) -> Iterator[tuple[str, tuple[str, int], bool]]:
        """The writes of the command's own side that it had been shown and a store lacks."""
        uid, field, context = reached
        apart = self.unshared & {command.registration, *(each.registrations.get(uid) for each in self.stores.values())}
        for side, stored in self.stores.items():
            if side != command.side and apart:
                continue
            for dot in own_dots(command.side, context):
                if not stored.covers(uid, field, dot):
                    yield side, dot, self.is_excused(command, reached, dot)

    def is_excused(self, command: Command, reached: Reached, dot: tuple[str, int]) -> bool:
        """Whether a write went with an older copy: the peer did not have it then, or had stopped sharing, and so sends nothing of it."""
        uid, field, _ = reached
        apart = self.stores[command.side].registrations.get(uid, command.registration) in self.unshared
        return any(is_within(command, each) and (apart or not peer.covers(uid, field, dot)) for each, peer in self.replaced)

    def has_private(self, command: Command) -> bool:
        """Whether a private note is there, or its deal was erased here: then it went along."""
        store = self.stores[command.side].store
        if store.rows("SELECT 1 FROM private_notes WHERE body LIKE ?", f"%{command.private}%"):
            return True
        deal_id = int(command.path.split("/")[3])
        return bool(store.rows(ERASED, deal_id))

    def find_overwritten(self) -> tuple[list[str], list[str]]:
        """Acknowledged saves that no longer stand, although nobody saved who had them in view; and those that a forger covered when a store
        was being restored."""
        overwritten, forged_away = [], []
        saves = [(command, written) for command in self.evidence.commands for written in command.written]
        by_place: dict[tuple[str, str], list[Written]] = {}
        for _, written in saves:
            by_place.setdefault((written.uid, written.field), []).append(written)
        for command, written in saves:
            if command.result != "acknowledged" or written.value is None:
                continue
            dot = self.dot_of(command.side, written)
            for side, stored in self.stores.items():
                gone = dot is not None and stored.covers(written.uid, written.field, dot) and not stands(stored, written, dot)
                if gone and not is_covered(dot, by_place[written.uid, written.field]):
                    found = forged_away if written[:2] in self.claimed else overwritten
                    found.append(f"{side}: {command.do} of the {command.side} at {command.asked_ms}, {written[:3]} {dot}")
        return overwritten, forged_away

    def dot_of(self, side: str, written: Written) -> tuple[str, int] | None:
        """Which write a value was, by either side's history; None where neither knows it."""
        found = self.dots.get((written.uid, written.field, encode_value(written.value).decode()))
        return found if found and side_of(found[0]) == side else None

    @cached_property
    def dots(self) -> dict[tuple[str, str, str], tuple[str, int]]:
        """By uid, field and canonical value: the first write of it; a settlement may write it again."""
        rows = [row for stored in self.stores.values() for row in stored.store.rows(WRITES)]
        return {(uid, field, value): (incarnation, counter) for uid, field, value, incarnation, counter in rows}

    def find_divergent(self) -> Iterator[str]:
        partner, vendor = self.pair
        together = checker.partnerships_of(partner) & checker.partnerships_of(vendor)
        yield from checker.find_differences(partner, vendor, self.unshared, together)
        yield from checker.find_unknown(partner, vendor, self.unshared, together, self.restored)

    def find_wrongly_applied(self) -> Iterator[str]:
        """What left an outbox, or was shown as applied, although the peer does not have it."""
        partner, vendor = self.pair
        yield from checker.find_wrongly_told(partner, vendor, self.restored)
        yield from checker.find_wrongly_told(vendor, partner, self.restored)
        for seen in self.evidence.seen:
            uid, field, context = seen.reached
            peer = self.stores[other("partner" if seen.side == "partner" else "vendor")]
            if seen.registration in self.unshared:
                continue
            for dot in own_dots(seen.side, context):
                if not peer.covers(uid, field, dot):
                    yield f"shown as applied to the {seen.side} at {seen.at_ms}, but the {peer.side} lacks {dot} of {uid} {field}"

    def find_leaks(self) -> Iterator[str]:
        """The text of a private note in the other side's store, in a topic, or in a log."""
        for topic, records in self.evidence.topics.items():
            yield from (f"a private note is in {topic}" for record in records if SECRET.encode() in record)
        for side, stored in self.stores.items():
            if f"{SECRET}{other('partner' if side == 'partner' else 'vendor')}".encode() in stored.store.path.read_bytes():
                yield f"a private note of the other side is in the {side}'s store"
        for log in self.evidence.logs:
            if SECRET.encode() in log.read_bytes():
                yield f"a private note is in {log}"

    def find_other(self) -> Iterator[str]:
        yield from (f"never in step: {what} ({count})" for what, count in self.evidence.left.items())
        yield from self.evidence.deaths
        yield from self.forgeries[0]
        for command in self.evidence.commands:
            if command.result == "failed":
                yield f"{command.side}: {command.do}: {command.detail}"
        for side, stored in self.stores.items():
            store = stored.store
            yield from (f"{side} refused what was honest: {row}" for row in store.rows(REFUSED))
            for reason, detail, payload in store.rows(PARKED):
                if MARK not in (payload or b""):
                    yield f"{side} still has something parked: {reason} {detail}"
            for check in (checker.check_conflict_index, checker.check_statuses, checker.check_counts):
                yield from ask(check, store)
        vendor = self.pair[1]
        yield from ask(lambda store: checker.check_assignments(store, "vendor" in self.restored), vendor)


def stands(stored: Stored, written: Written, dot: tuple[str, int]) -> bool:
    """Whether the value is still there, or all of it was erased."""
    document = stored.documents[written.uid]
    standing = {(each.dot.incarnation, each.dot.counter) for each in document.get(written.field).siblings}
    return dot in standing or document.is_erased(written.field)


def ask(check: Callable[[Store], None], store: Store) -> Iterable[str]:
    try:
        check(store)
    except Broken as broken:
        return [str(broken)]
    return []


def is_covered(dot: tuple[str, int], saves: Iterable[Written]) -> bool:
    """Whether one of these was asked for by somebody who had the write in view."""
    return any(each.seen.get(dot[0], 0) >= dot[1] for each in saves)


def own_dots(side: str, context: Context) -> list[tuple[str, int]]:
    return [(incarnation, counter) for incarnation, counter in context.items() if side_of(incarnation) == side]


def is_within(command: Command, replacement: Replacement) -> bool:
    """Whether a command may have been done after the copy was made and before that was put back."""
    same = command.side == replacement.side
    return same and command.asked_ms <= replacement.replaced_ms and command.answered_ms >= replacement.copied_ms
