"""The figures that the sums come to at a moment: for the JSON route, and as gauges."""

from collections import Counter, defaultdict
from typing import Any

from shared_schema.contract.envelope import EVENT_TYPES
from shared_schema.sync import metrics
from shared_schema.sync.insights.quantiles import merge, quantile
from shared_schema.sync.insights.statistics import WINDOW_MINUTES, LagKey, Minute, Statistics, spread_of

Row = dict[str, Any]
BUSIEST = 10
GAUGE_MINUTES = 5
EVENT_KINDS = frozenset(type_.partition(".")[0] for type_ in EVENT_TYPES)
TIMES = {"time_to_decision": metrics.insights_decision, "time_to_first_reply": metrics.insights_reply}


def count_events(minutes: list[Minute]) -> dict[str, Counter[str]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in minutes:
        for (partnership, type_), count in each.events.items():
            found[partnership][type_] += count
    return found


def count_edits(minutes: list[Minute]) -> tuple[Counter[str], Counter[str]]:
    """Edits, and those of them that the other side answered with a conflict, by partnership."""
    edits = Counter(partnership for each in minutes for partnership in each.edits.values())
    met = Counter(partnership for each in minutes for event, partnership in each.edits.items() if event in each.conflicts)
    return edits, met


def merge_lags(minutes: list[Minute]) -> dict[LagKey, Counter[int]]:
    keys = sorted({key for each in minutes for key in each.lags})
    return {key: merge(each.lags[key] for each in minutes if key in each.lags) for key in keys}


def find_busiest(minutes: list[Minute]) -> dict[str, list[Row]]:
    """Per partnership the registrations with most events, the busiest first."""
    totals: Counter[tuple[str, str]] = Counter()
    for each in minutes:
        totals.update(each.deals)
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for (partnership, registration), count in sorted(totals.items(), key=lambda each: (-each[1], each[0])):
        if len(found[partnership]) < BUSIEST:
            found[partnership].append({"registration": registration, "events": count})
    return found


def summarise(statistics: Statistics, partnerships: list[str], now_ms: int, minutes: int = WINDOW_MINUTES) -> Row:
    """All figures over the last so many minutes, the running one included; those of registrations over a week."""
    window = list(statistics.within(now_ms, minutes))
    events, (edits, met), busiest = count_events(window), count_edits(window), find_busiest(window)
    lags = merge_lags(window)
    return {
        "at_ms": now_ms,
        "minutes": minutes,
        "partnerships": {
            partnership: {
                "events": {
                    type_: {"count": count, "per_minute": round(count / minutes, 3)}
                    for type_, count in sorted(events.get(partnership, {}).items())
                },
                "lag": [
                    {
                        "direction": key.direction,
                        "kind": key.kind,
                        "count": buckets.total(),
                        "p50_ms": round(quantile(buckets, 0.5) or 0, 1),
                        "p99_ms": round(quantile(buckets, 0.99) or 0, 1),
                    }
                    for key, buckets in lags.items()
                    if key.partnership == partnership
                ],
                "busiest_deals": busiest.get(partnership, []),
                "edits": edits[partnership],
                "edits_that_met_a_conflict": met[partnership],
                **summarise_registrations(statistics, partnership),
            }
            for partnership in partnerships
        },
    }


def summarise_registrations(statistics: Statistics, partnership: str) -> Row:
    mine = [each for (of, _), each in statistics.registrations.items() if of == partnership]
    return {
        "registrations": sum(each.maker is not None for each in mine),
        "time_to_decision": spread_of(mine, "decision")._asdict(),
        "time_to_first_reply": spread_of(mine, "reply")._asdict(),
    }


def set_gauges(statistics: Statistics, partnerships: list[str], now_ms: int) -> None:
    """The same as metrics: rates and lag over five minutes, conflicts over the hour. What has no figure now has no gauge."""
    of_five, of_hour = (summarise(statistics, partnerships, now_ms, minutes)["partnerships"] for minutes in (GAUGE_MINUTES, WINDOW_MINUTES))
    for gauge in (metrics.insights_events, metrics.insights_lag, metrics.insights_conflicts, *TIMES.values()):
        gauge.clear()
    for name in partnerships:
        for type_, each in of_five[name]["events"].items():
            metrics.insights_events.labels(name, type_ if type_ in EVENT_TYPES else "unknown").inc(each["per_minute"])
        for each in of_five[name]["lag"]:
            kind = each["kind"] if each["kind"] in EVENT_KINDS else "unknown"
            for share in ("p50", "p99"):
                metrics.insights_lag.labels(name, each["direction"], kind, share).set(each[f"{share}_ms"] / 1000)
        if edits := of_hour[name]["edits"]:
            metrics.insights_conflicts.labels(name).set(of_hour[name]["edits_that_met_a_conflict"] / edits)
        for spread, gauge in TIMES.items():
            for share in ("p50", "p90"):
                if (value := of_hour[name][spread][f"{share}_ms"]) is not None:
                    gauge.labels(name, share).set(value / 1000)
