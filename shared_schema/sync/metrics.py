"""Every metric, named once; prefix `dealbridge_`, unit last. Labels take values of a bounded set only."""

from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Info, generate_latest

from shared_schema.contract.codec import read_time
from shared_schema.contract.envelope import EVENT_TYPES
from shared_schema.contract.records import KINDS
from shared_schema.contract.refusal import REASONS
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import other
from shared_schema.crm.tables import SYNCED
from shared_schema.sync.apply import Desk
from shared_schema.sync.arrivals import Numbered
from shared_schema.sync.discards import is_by_person
from shared_schema.sync.parking import ParkRow
from shared_schema.sync.progress import Reach

Row = dict[str, Any]
LAG_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600, 86400)
TROUBLE_KINDS = ("down", "credential", "certificate", "access", "missing", "settings", "failed")
WORK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)

one_way_lag = Histogram(
    "dealbridge_one_way_lag_seconds", "From the peer's commit to ours, by both clocks.", ["partnership", "direction", "kind"], buckets=LAG_S
)
round_trip_lag = Histogram(
    "dealbridge_round_trip_lag_seconds",
    "From our commit to the peer's acknowledgement, by one clock.",
    ["partnership", "direction", "kind"],
    buckets=LAG_S,
)
apply_duration = Histogram("dealbridge_apply_duration_seconds", "One batch applied and committed.", ["partnership"], buckets=WORK_S)
publish_duration = Histogram("dealbridge_publish_duration_seconds", "One batch published and marked.", ["partnership"], buckets=WORK_S)
events = Counter("dealbridge_events_applied_total", "Events of the peer's taken in.", ["partnership", "type"])
published = Counter("dealbridge_events_published_total", "Outbox rows that the broker acknowledged.", ["partnership"])
arrivals = Counter("dealbridge_arrivals_total", "Numbers received: new, filled (closed a gap), repeated.", ["partnership", "arrival"])
conflicts = Counter("dealbridge_conflicts_total", "Conflicts opened by the peer's events.", ["partnership", "kind", "field"])
refused = Counter("dealbridge_refused_total", "Fields of the peer's that were refused.", ["partnership", "reason"])
parked_now = Counter("dealbridge_parked_total", "Records parked.", ["partnership", "reason"])
duplicates = Counter("dealbridge_duplicates_total", "Registrations of customers that were in progress already.", ["partnership"])
assignments = Counter("dealbridge_assignments_total", "Reps assigned.", ["rep", "method"])
unstated = Counter("dealbridge_unstated_records_total", "Owed states passed over: no event can carry them.", ["partnership"])
projected = Counter(
    "dealbridge_projected_again_records_total", "Records projected again, for fields that were new to this version.", ["partnership"]
)
swept = Counter("dealbridge_swept_rows_total", "Rows that the sweeper took out of the store.", ["table"])
backlog = Gauge("dealbridge_outbox_backlog_rows", "Outbox rows that wait to be published.", ["partnership"])
oldest = Gauge("dealbridge_outbox_oldest_age_seconds", "Age of the oldest outbox row that waits to be published.", ["partnership"])
unacknowledged = Gauge("dealbridge_unacknowledged_rows", "Outbox rows that the peer has not acknowledged.", ["partnership"])
unacknowledged_oldest = Gauge(
    "dealbridge_unacknowledged_oldest_age_seconds", "Age of the oldest of them that no person holds.", ["partnership"]
)
consumer_lag = Gauge("dealbridge_consumer_lag_records", "Records of the peer's topic that are not applied yet.", ["partnership"])
gaps = Gauge("dealbridge_gaps_events", "Numbers of the peer's that are missing here.", ["partnership"])
parked = Gauge("dealbridge_parked_records", "Records in parking.", ["partnership", "reason"])
reactions = Gauge("dealbridge_reactions_due_reactions", "Answers that are due by this node's machine: decisions, reps.", ["partnership"])
unassigned = Gauge("dealbridge_unassigned_registrations", "Active registrations without a rep.", ["partnership"])
refused_here = Gauge("dealbridge_refused_fields", "Fields of the peer's that stand refused, until they change.", ["partnership"])
peer_refused = Gauge("dealbridge_peer_refused_fields", "Fields of ours that the peer refused, not written since.", ["partnership"])
stopped = Gauge("dealbridge_stream_stopped_streams", "1 while the inbound stream is stopped because too much was parked.", ["partnership"])
held = Gauge("dealbridge_held_events", "Events that wait for a person's word; out: unsent, in: parked.", ["partnership", "direction"])
erasing = Gauge("dealbridge_erasing_records", "Erasures that are not cleaned up here yet, or not answered by the peer.", ["partnership"])
trouble = Gauge(
    "dealbridge_broker_trouble_partnerships",
    "1 while the broker can not be used: down, credential, certificate, access, missing, settings or failed.",
    ["partnership", "kind"],
)
restoring = Gauge("dealbridge_restoring_streams", "1 while this store, which went back, waits for the peer's states.", ["partnership"])
longest_context = Gauge(
    "dealbridge_longest_context_entries",
    "Incarnations that wrote one field, where they are very many.",
    ["partnership"],
)
suspected = Gauge("dealbridge_suspected_fields", "Fields refused because they name writes of ours never made here.", ["partnership"])
drift = Gauge("dealbridge_drift_records", "Records that differ between the sides, seen so at two looks.", ["partnership"])
repaired = Counter("dealbridge_repaired_records_total", "Records that had drifted and whose states were sent.", ["partnership"])
owed = Gauge("dealbridge_owed_states_records", "Records whose whole state waits to reach the peer.", ["partnership"])
open_conflicts = Gauge("dealbridge_open_conflicts_fields", "Conflicts that nobody has settled.", ["partnership"])
peer_backlog = Gauge("dealbridge_peer_backlog_rows", "What the peer had yet to publish, by its last heartbeat.", ["partnership"])
last_seen = Gauge("dealbridge_peer_last_seen_age_seconds", "Since the peer was last heard.", ["partnership"])
clock_skew = Gauge("dealbridge_clock_skew_seconds", "The peer's clock ahead of ours, with the way its message took.", ["partnership"])
stamps_ahead = Counter(
    "dealbridge_stamps_ahead_total", "Events of the peer's with a stamp more than 5 s ahead of our clock.", ["partnership"]
)
store_size = Gauge("dealbridge_store_size_bytes", "Size of this node's store.")
disk_free = Gauge("dealbridge_disk_free_bytes", "Free space of the file system that an SQLite store lies on.", ["place"])
disk_size = Gauge("dealbridge_disk_size_bytes", "Size of that file system.", ["place"])
insights_events = Gauge("dealbridge_insights_events_per_minute", "Over the last five minutes, both ways.", ["partnership", "type"])
insights_lag = Gauge(
    "dealbridge_insights_lag_seconds",
    "From commit to the other side's acknowledgement, by both clocks, over the last five minutes.",
    ["partnership", "direction", "kind", "quantile"],
)
insights_conflicts = Gauge("dealbridge_insights_conflict_ratio", "Share of the last hour's edits that met a conflict.", ["partnership"])
insights_decision = Gauge(
    "dealbridge_insights_decision_seconds", "From registration to decision, of the last week's.", ["partnership", "quantile"]
)
insights_reply = Gauge(
    "dealbridge_insights_first_reply_seconds", "From registration to the other side's first note or comment.", ["partnership", "quantile"]
)
insights_behind = Gauge("dealbridge_insights_behind_records", "Records of the topics that are not in the statistics yet.")
build = Info("dealbridge_build", "What runs: version, side and role of the process.")

longest: dict[str, int] = {}


def say_build(side: Side, role: str) -> None:
    build.info({"version": version("dealbridge"), "side": side, "role": role})


def note_applied(desk: Desk, taken: Sequence[Numbered], reach: Reach, seconds: float) -> None:
    """One batch, after its commit."""
    apply_duration.labels(desk.partnership).observe(seconds)
    direction, now_ms = f"to_{desk.side}", desk.now_ms
    types = Counts(each.event.type if each.event.type in EVENT_TYPES else "unknown" for each in taken)
    for type_, count in types.items():
        events.labels(desk.partnership, type_).inc(count)
    lags = {type_: one_way_lag.labels(desk.partnership, direction, type_.partition(".")[0]) for type_ in types}
    for each in taken:
        if sent_ms := read_time(each.event.time):
            lags[each.event.type if each.event.type in types else "unknown"].observe(max(0, now_ms - sent_ms) / 1000)
    for arrival, count in reach.arrivals.items():
        arrivals.labels(desk.partnership, arrival).inc(count)
    note_parked(desk.partnership, desk.to_park)
    note_outcomes(desk)


def note_parked(partnership: str, rows: Iterable[ParkRow]) -> None:
    for row in rows:
        parked_now.labels(partnership, row["reason"]).inc()
        if row["reason"] in REASONS and row["event"] is None:  # a forgery, kept whole as evidence, whose sender can not be told
            refused.labels(partnership, row["reason"]).inc()


def note_outcomes(desk: Desk) -> None:
    for each in desk.answers:
        for outcome in each.outcomes:
            if outcome.outcome == "refused" and not is_by_person(outcome.reason):
                refused.labels(desk.partnership, outcome.reason).inc()
            record = desk.records.get(outcome.uid or "")
            if outcome.outcome == "conflict" and record and record.kind in KINDS:
                field = outcome.field if outcome.field in (*KINDS[record.kind].fields, "life") else "unknown"
                conflicts.labels(desk.partnership, record.kind, str(field)).inc()


def note_context(partnership: str, entries: int) -> None:
    longest[partnership] = max(entries, longest.get(partnership, 0))
    longest_context.labels(partnership).set(longest[partnership])


def note_acknowledged(desk: Desk, acknowledged: Iterable[tuple[str, int]]) -> None:
    """Round trips that ended: of what kind of record, and when they began (ms)."""
    direction, now_ms, lags = f"to_{other(desk.side)}", desk.now_ms, {}
    for kind, created_ms in acknowledged:
        if kind not in lags:
            lags[kind] = round_trip_lag.labels(desk.partnership, direction, kind)
        lags[kind].observe(max(0, now_ms - created_ms) / 1000)


def note_status(rows: Sequence[Row]) -> None:
    """The gauges, from how the sync stands."""
    parked.clear()  # a reason of which nothing is left is no reason any more
    for row in rows:
        name = row["partnership"]
        backlog.labels(name).set(row["backlog"])
        unacknowledged.labels(name).set(row["unacknowledged"])
        waits = row["status"] in SYNCED  # of whoever was shut out nobody is waiting to hear, and what is kept for them is not stuck
        oldest.labels(name).set((row["backlog_oldest_ms"] or 0) / 1000 if waits else 0)
        unacknowledged_oldest.labels(name).set((row["oldest_ms"] or 0) / 1000 if waits else 0)
        gaps.labels(name).set(row["gaps"])
        for reason, count in row["parked_by"].items():
            parked.labels(name, reason).set(count)
        reactions.labels(name).set(row["reactions"])
        refused_here.labels(name).set(row["refused_here"])
        peer_refused.labels(name).set(row["refused"])
        drift.labels(name).set(row["drift"])
        held.labels(name, "out").set(row["held_outgoing"])
        held.labels(name, "in").set(row["held_incoming"])
        erasing.labels(name).set(row["erasing"])
        restoring.labels(name).set(row["restoring_since_ms"] is not None)
        suspected.labels(name).set(row["suspected"])
        owed.labels(name).set(row["owed"])
        stopped.labels(name).set(row["stopped"] is not None)
        for kind in TROUBLE_KINDS:
            trouble.labels(name, kind).set(row["trouble"] == kind)
        open_conflicts.labels(name).set(row["open_conflicts"])
        if row["peer_heard_ms_ago"] is not None:
            peer_backlog.labels(name).set(row["peer_backlog"])
            last_seen.labels(name).set(row["peer_heard_ms_ago"] / 1000 if waits else 0)
            clock_skew.labels(name).set(row["clock_skew_ms"] / 1000)


def expose() -> bytes:
    """All of them in Prometheus' text format."""
    return generate_latest()
