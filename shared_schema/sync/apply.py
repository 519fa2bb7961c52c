"""Apply: a batch of the peer's events merged into the store, set-based, in the transaction that moves the position.

Effects come from the state before and after, never from an event's type or its arrival, so a duplicate has none. Nothing is captured:
there is no echo. What can not be applied yet, or at all, is parked whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Event, Outcome, RecordChange
from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.erasure import may_erase, may_erase_fields
from shared_schema.contract.identifiers import deal_uid
from shared_schema.contract.policy import Policy, read_policy
from shared_schema.contract.records import KINDS, Kind, is_made_by_either
from shared_schema.contract.refusal import AHEAD, REASONS, Door, refuse_fields
from shared_schema.contract.registers import Register, Side, covers
from shared_schema.contract.registration import outlasts_sharing
from shared_schema.contract.topics import other
from shared_schema.crm.shared_records import SharedRecord, Written, append_history, find_elsewhere, load_records
from shared_schema.sync import brake, discards, erasures, heard, parking, refusals
from shared_schema.sync.answers import OUTCOME, Answer, answer
from shared_schema.sync.arrivals import Arrivals, Numbered, Unreadable
from shared_schema.sync.braking import BRAKE, DESTRUCTIVE, DROPPED, UNSHARED, Act, Ledger, Limits, act_of_change, count_as, spare
from shared_schema.sync.effects import Due, follow, nothing_due
from shared_schema.sync.erasures import ERASED, Erased
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.restate import RESTATED
from shared_schema.sync.restorable import find_deal, find_over
from shared_schema.sync.scrubbing import erase_below, load_around

NO_LIMITS = Limits()
NOTHING = Document()


class MissingParent(Exception):
    """A child came before its parent: `uid` is what it waits for."""

    def __init__(self, uid: str) -> None:
        super().__init__(f"waits for its parent {uid}")
        self.uid = uid


@dataclass(slots=True)
class Desk:
    """One batch at work: who we are, the locked records, and what has come of the batch so far. Without `limits` no brake is asked.
    `restoring`: our store went back, and the peer may bring our own writes; `returning`: so may the event at hand, which came while that
    was so; `unknown`: records refused because they would be ours.
    `foreign`: what the batch names as a parent or registration and is another partnership's. `over`: the deleted deals that nobody can
    restore any more, `trash_days` after their deletion. `releasing`: what waited for a record of this batch leaves parking with it.
    `discarded`: the events that a person discarded when they came before."""

    incarnation: Incarnation
    partnership: str
    policy: Policy
    due: Due = nothing_due
    limits: Limits | None = NO_LIMITS
    ledger: Ledger | None = None
    records: dict[str, SharedRecord] = field(default_factory=dict)
    written: list[Written] = field(default_factory=list)
    to_park: list[parking.ParkRow] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    told: list[heard.Told] = field(default_factory=list)
    created: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    erased: dict[tuple[object, ...], Erased] = field(default_factory=dict)
    repeated: dict[tuple[object, ...], Erased] = field(default_factory=dict)
    restoring: bool = False
    returning: bool = False
    unknown: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    trash_days: int = 90
    releasing: bool = True
    discarded: set[str] = field(default_factory=set)

    @property
    def claimed(self) -> bool:
        """Whether something was refused that only a forger says, or a peer whose partner's store went back."""
        return any(outcome.outcome == "refused" and outcome.reason in AHEAD for each in self.answers for outcome in each.outcomes)

    @property
    def side(self) -> Side:
        return self.incarnation.side

    @property
    def now_ms(self) -> int:
        return self.incarnation.clock.now_ms()


async def apply_events(tx: AsyncConnection, desk: Desk, arrivals: Arrivals) -> None:
    """Merge the events in order and write what changed; the caller moves the position in the same transaction."""
    named = named_uids(arrivals.events)
    desk.records |= await load_records(tx, desk.partnership, named)
    made_by_either = {change.uid for each in arrivals.events for change in each.event.data.records if is_made_by_either(change.kind)}
    if late := made_by_either - desk.records.keys():  # one may have been made here while this transaction waited for its deal
        desk.records |= await load_records(tx, desk.partnership, late)
    if missing := named - desk.records.keys():
        coming = {change.uid for each in arrivals.events for change in each.event.data.records}
        desk.foreign |= await find_elsewhere(tx, desk.partnership, missing - coming)
    for unread in arrivals.unreadable:
        park_unreadable(desk, unread)
    waiting = list(arrivals.events)
    while waiting:
        await prepare_destruction(tx, desk, waiting)
        for numbered in waiting:
            apply_event(desk, numbered)
        waiting = await release_children(tx, desk)
    desk.to_park, desk.answers = await discards.pass_over(tx, desk.partnership, desk.to_park, desk.answers, desk.now_ms)
    await parking.save(tx, [each | {"restoring": desk.restoring or each["restoring"]} for each in desk.to_park])
    if desk.ledger is not None:
        await brake.keep(tx, desk.partnership, "in", desk.ledger, desk.now_ms)
    await follow(tx, desk.incarnation, desk.due, desk.policy, desk.records.values())
    await append_history(tx, desk.written, desk.now_ms)
    news = await heard.keep(tx, desk.partnership, desk.told, desk.now_ms)
    await refusals.keep(tx, desk.partnership, desk.answers, desk.now_ms)
    await erasures.take(tx, list(desk.erased.values()), list(desk.repeated.values()), desk.now_ms)
    await erasures.take_dates(tx, desk.partnership, news)


async def prepare_destruction(tx: AsyncConnection, desk: Desk, events: Sequence[Numbered]) -> None:
    """What the events that delete, erase or unshare need at hand: all that hangs below what is erased, and the brake's ledger."""
    changes = [change for each in events for change in each.event.data.records]
    destructive = [each for each in changes if each.erased or each.erased_fields or not DESTRUCTIVE.isdisjoint(each.fields)]
    erased = [each for each in destructive if each.erased]
    if erased:
        around = await load_around(tx, desk.partnership, {each.registration for each in erased})
        desk.records |= {uid: record for uid, record in around.items() if uid not in desk.records}
    if destructive and desk.limits is not None:
        kinds = [count_as(each.kind) for each in destructive]
        fresh = await brake.open_ledger(tx, desk.partnership, "in", desk.limits, desk.now_ms, kinds)
        fresh.dropped = await brake.find_dropped(tx, desk.partnership, {each.event.id for each in events})
        if desk.ledger is not None:
            fresh.take_over(desk.ledger)
        desk.ledger = fresh
        desk.over |= await find_over(tx, desk.partnership, desk.records, destructive, desk.now_ms, desk.trash_days)


def named_uids(events: Iterable[Numbered]) -> set[str]:
    """Every record that the events carry, hang on, or belong to."""
    changes = [change for each in events for change in each.event.data.records]
    deals = {deal_uid(each.registration) for each in changes if each.registration and (each.kind == "note" or LIFE in each.fields)}
    return deals | {uid for change in changes for uid in (change.uid, change.parent, change.registration) if uid}


def apply_event(desk: Desk, numbered: Numbered) -> None:
    """One event into the records in memory; parked whole if one of its records has no parent yet."""
    event, letter = numbered.event, numbered.received.letter
    desk.returning = desk.restoring or (letter is not None and letter.restoring)
    ignored = [change for change in event.data.records if is_unshared(desk, change)]
    going = [change for change in event.data.records if change not in ignored] if ignored else event.data.records
    changes, stays = hold_back(desk, numbered, going)
    try:
        check_parents(desk, changes)
    except MissingParent as missing:
        if not stays:
            park_event(desk, numbered, missing)
        return
    outcomes = [Outcome(event.id, "ignored", "unshared", change.uid) for change in ignored]
    for change in changes:
        outcomes += merge_change(desk, event, change)
    desk.told += [heard.Told(event.id, outcome) for outcome in event.data.outcomes]
    if (letter is not None or event.id in desk.discarded) and not stays and event.type != OUTCOME:
        outcomes.append(Outcome(event.id, "applied", "after all"))
    if outcomes:
        desk.answers.append(answer(event, *outcomes))
    desk.incarnation.adopt(event.stamp)


def is_unshared(desk: Desk, change: RecordChange) -> bool:
    """Whether this side knows that sharing of the registration has stopped; then only leaving, stopping and erasing still count."""
    registration = desk.records.get(change.registration or "")
    return registration is not None and is_ended(registration) and not outlasts_sharing(change)


def is_ended(registration: SharedRecord) -> bool:
    return UNSHARED in registration.document and bool(registration.document.get(UNSHARED).siblings)


def check_parents(desk: Desk, changes: Sequence[RecordChange]) -> None:
    """Every record's parent is stored, or comes in the same event before it, or is one to refuse."""
    coming = set(desk.foreign)
    for change in changes:
        if change.parent is not None and change.parent not in desk.records and change.parent not in coming and not change.erased:
            raise MissingParent(change.parent)
        coming.add(change.uid)


def merge_change(desk: Desk, event: Event, change: RecordChange) -> list[Outcome]:
    """Merge one record's fields past the door; what became of those that did not simply apply."""
    record = desk.records.get(change.uid)
    if reason := refuse_identity(desk, record, change):
        return [Outcome(event.id, "refused", reason, change.uid)]
    if record is None:
        record = SharedRecord(desk.partnership, change.uid, change.kind, change.parent, change.registration, change.side, Document())
        desk.records[change.uid] = record
        desk.created.add(change.uid)
    if change.erased or change.erased_fields:
        return erase_change(desk, event, record, change)
    if not record.document.erased and is_below_erased(desk, record):
        record.erase()
    if record.document.erased:
        return [Outcome(event.id, "ignored", "erased", change.uid)]
    running = desk.incarnation.name if desk.returning else None
    refused = refuse_fields(Door(desk.side, desk.policy, record.kind, record.side, running), record.document, change.fields)
    if not refused:
        return merge_fields(desk, event, record, change.fields)
    outcomes = [Outcome(event.id, "refused", reason, change.uid, name) for name, reason in refused.items()]
    if record.uid in desk.created and refused.keys() == change.fields.keys():
        desk.created.discard(record.uid)
        del desk.records[record.uid]
        return outcomes
    return outcomes + merge_fields(desk, event, record, {name: each for name, each in change.fields.items() if name not in refused})


def merge_fields(desk: Desk, event: Event, record: SharedRecord, fields: Mapping[str, Register]) -> list[Outcome]:
    """Merge what passed the door; the conflicts that this opened, and what a deletion hides."""
    contested = is_contested(record)
    met = [name for name, register in fields.items() if merge_field(desk, event, record, name, register)]
    outcomes = [Outcome(event.id, "conflict", "both sides changed it", record.uid, name) for name in met]
    if is_contested(record) and not contested:
        outcomes.append(Outcome(event.id, "conflict", "deleted by one side, changed by the other", record.uid, LIFE))
    if record.kind == "policy" and record.touched:
        desk.policy = read_policy(record.document)
    return outcomes + tell_hidden(desk, event, record)


def is_contested(record: SharedRecord) -> bool:
    return LIFE in record.document and record.state == "contested"


def erase_change(desk: Desk, event: Event, record: SharedRecord, change: RecordChange) -> list[Outcome]:
    """Erase a record with all below it, or fields of it, if the sender may."""
    names = frozenset(change.erased_fields)
    named = may_erase_fields(record.kind, names)
    allowed = may_erase(record.kind, other(desk.side), record.side) if change.erased else named
    if not allowed:
        if record.uid in desk.created:
            desk.created.discard(record.uid)
            del desk.records[record.uid]
        return [Outcome(event.id, "refused", "not_writable", change.uid)]
    before = record.document.gone
    if named and not names <= before:
        record.erase(names)
    if change.erased:
        erase_below(record, desk.records.values())
    if event.type in (ERASED, RESTATED):
        kept = desk.erased if event.type == ERASED or before != record.document.gone else desk.repeated
        parts = [names] * named + [frozenset[str]()] * change.erased
        kept |= {(record.uid, part): Erased.of(record, part, event.id, "there") for part in parts}
    rest = RecordChange(change.uid, change.kind, change.parent, change.registration, change.side, change.fields)
    return merge_change(desk, event, rest) if change.fields and not change.erased else []


def is_below_erased(desk: Desk, record: SharedRecord) -> bool:
    """Whether what it hangs on is erased: then nothing of it is kept either."""
    for uid in (record.parent, record.registration):
        above = desk.records.get(uid) if uid else None
        if above is not None and above is not record and above.document.erased:
            return True
    return False


def hold_back(desk: Desk, numbered: Numbered, changes: Sequence[RecordChange]) -> tuple[Sequence[RecordChange], bool]:
    """What of an event goes on, past the brake: all of it, or what destroys nothing. And whether the event itself stays behind: it is
    parked whole, or a person dropped it."""
    if desk.ledger is None:
        return changes, False
    pairs = [(each, None if is_gone(desk, each) else act_of_change(each, stored_document(desk, each))) for each in changes]
    acts = [act for _, act in pairs if act is not None]
    verdict = judge(desk, desk.ledger, numbered, acts) if acts else "goes"
    if verdict == "goes":
        return changes, False
    return [each for change, act in pairs if (each := change if act is None else spare(change)) is not None], verdict == "stays"


def judge(desk: Desk, ledger: Ledger, numbered: Numbered, acts: Sequence[Act]) -> Literal["goes", "stays", "repeats"]:
    event = numbered.event
    if event.id in ledger.waiting:  # it arrived once more, and its answer follows a person's word
        return "stays"
    if event.id in ledger.dropped:
        if numbered.received.letter is not None:  # a person released it, and it had to wait for its parent
            return "goes"
        desk.answers.append(answer(event, Outcome(event.id, "refused", DROPPED)))
        return "stays"
    known = {act.uid for act in acts} <= ledger.held
    why = ledger.judge(event.id, acts)
    if why is None:
        return "goes"
    if event.type == RESTATED and known:  # a state that only repeats what is held need not wait beside it
        repeated = [Outcome(event.id, "ignored", "held by the brake already", act.uid) for act in acts]
        desk.answers.append(answer(event, *repeated))
        return "repeats"
    row = parking.make_row(desk.partnership, numbered.received, BRAKE, why, desk.now_ms)
    desk.to_park.append(row | {"event": event.id})
    desk.answers.append(answer(event, Outcome(event.id, "parked", BRAKE)))
    return "stays"


def is_gone(desk: Desk, change: RecordChange) -> bool:
    """Whether a change is of a part of a deleted deal that nobody can restore any more, or of a part that came here only after its deal had
    gone: then nothing more is destroyed by deleting it, too. So each side deletes what it made in deals whose days are over."""
    deal = find_deal(desk.records, change)
    if deal is None or deal.state != "deleted" or change.erased:
        return False
    return deal.uid in desk.over or change.uid not in desk.records


def stored_document(desk: Desk, change: RecordChange) -> Document:
    record = desk.records.get(change.uid)
    return record.document if record else NOTHING


def merge_field(desk: Desk, event: Event, record: SharedRecord, name: str, incoming: Register) -> bool:
    """Merge one field; whether that opened a conflict. A write that comes late, after one that replaced it, is history all the same; one
    that a swept tombstone covers is not."""
    before = record.document.get(name)
    fresh = [
        each for each in incoming.siblings if each not in before.siblings and (before.siblings or not covers(before.context, each.dot))
    ]
    desk.written += [Written(record, name, each, "peer", event.id) for each in fresh]
    if not record.document.merge_in(name, incoming):
        return False
    return record.touch(name, before)


def tell_hidden(desk: Desk, event: Event, record: SharedRecord) -> list[Outcome]:
    """A new child of a deleted parent is stored under it and never revives it: its author is told."""
    above = deal_uid(str(record.registration)) if record.kind == "note" else record.parent or ""
    parent = desk.records.get(above) if record.uid in desk.created else None
    if parent is None or parent.state != "deleted":
        return []
    return [Outcome(event.id, "applied", f"stored, but its {parent.kind} is deleted", record.uid)]


def refuse_identity(desk: Desk, record: SharedRecord | None, change: RecordChange) -> str | None:
    """A uid keeps its kind, parent, registration and maker for ever; a new record is the sender's own, or one that either side makes."""
    kind = KINDS.get(change.kind)
    made_by = kind.made_by if kind else None
    if record is None:
        return refuse_new(desk, kind, change) if made_by in (None, change.side) else "wrong_identity"
    stored = (record.kind, record.parent, record.registration, record.side)
    return None if stored == (change.kind, change.parent, change.registration, change.side) else "wrong_identity"


def refuse_new(desk: Desk, kind: Kind | None, change: RecordChange) -> str | None:
    if desk.foreign & {change.parent, change.registration}:
        return "wrong_parent"
    if change.erased:
        return None  # a record that this store does not have, or not any more: what is left of it is the fact
    ours = change.side == desk.side and (kind is None or kind.made_by is None)
    if not desk.returning and (ours or change.parent in desk.unknown):
        desk.unknown.add(change.uid)  # and what hangs below it is not to be called somebody else's child
        return "own_record_unknown"
    if kind is not None and not belongs(desk.records.get(change.parent or ""), kind, change):
        return "wrong_parent"
    return None


def belongs(parent: SharedRecord | None, kind: Kind, change: RecordChange) -> bool:
    """Whether a new record names a parent of the right kind within its own registration, or rightly none."""
    if kind.parent is None:
        return change.parent is None and change.registration in (None, change.uid)
    return parent is not None and parent.kind == kind.parent and change.registration in (parent.uid, parent.registration)


def park_unreadable(desk: Desk, unread: Unreadable) -> None:
    """Bytes that can not be read; of a forger's the sender is told *refused*."""
    row = parking.make_row(desk.partnership, unread.received, unread.reason, unread.detail, desk.now_ms)
    desk.to_park.append(row | {"event": unread.event, "waits_for": unread.waits_for and unread.waits_for[: parking.UID_LENGTH]})
    if unread.event is not None:
        outcome = "refused" if unread.reason in REASONS else "parked"
        desk.answers.append(Answer(unread.event, (Outcome(unread.event, outcome, unread.reason),), unread.event))


def park_event(desk: Desk, numbered: Numbered, missing: MissingParent) -> None:
    row = parking.make_row(desk.partnership, numbered.received, parking.MISSING_PARENT, str(missing), desk.now_ms)
    desk.to_park.append(row | {"event": numbered.event.id, "waits_for": missing.uid})
    desk.answers.append(answer(numbered.event, Outcome(numbered.event.id, "parked", parking.MISSING_PARENT)))


async def release_children(tx: AsyncConnection, desk: Desk) -> list[Numbered]:
    """The parked events that waited for a record which this batch created, or in a registration which it ended; they leave parking in this
    transaction."""
    ended = {uid for uid, record in desk.records.items() if UNSHARED in record.touched and is_ended(record)} - desk.ended
    if not desk.releasing or (not desk.created and not ended):
        return []
    fresh, desk.created = desk.created, set()
    desk.ended |= ended
    ours = [row for row in desk.to_park if row["waits_for"] in fresh or parking.is_orphan(row, ended)]
    desk.to_park = [row for row in desk.to_park if row not in ours]
    waiting = await parking.take_waiting(tx, desk.partnership, fresh)
    waiting += await parking.take_orphans(tx, desk.partnership, ended) if ended else []
    released = parking.read_rows(desk.partnership, waiting + ours)
    desk.records |= await load_records(tx, desk.partnership, named_uids(released) - set(desk.records))
    return released
