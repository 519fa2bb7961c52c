"""Which metrics a PromQL query names, with which labels; and which the code has. For the tests of rules and dashboards."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.metrics import MetricWrapperBase

from shared_schema.sync import metrics

PROMETHEUS_OWN = {"up": {"job", "instance"}}
TARGET_LABELS = {"side", "job", "instance"}  # what Prometheus, or its settings, puts on every series of a target
SELECTOR = re.compile(r"\b(?P<name>up|dealbridge[:_][\w:]+)\b(?:\{(?P<labels>[^}]*)\})?")
LABEL = re.compile(r'(?P<name>\w+)\s*(?:=~|!~|!=|=)\s*"')
GROUPING = re.compile(r"\b(?:by|without)\s*\((?P<names>[^)]*)\)")
SUFFIXES: dict[type[MetricWrapperBase], tuple[str, ...]] = {
    Counter: ("_total",),
    Gauge: ("",),
    Histogram: ("_bucket", "_sum", "_count"),
    Info: ("_info",),
}


class Query(NamedTuple):
    """The series that a query names, each with the labels that it selects by; and the labels that it groups by."""

    series: list[tuple[str, set[str]]]
    grouped_by: set[str]


def read_query(text: str) -> Query:
    series = [(found["name"], {each["name"] for each in LABEL.finditer(found["labels"] or "")}) for found in SELECTOR.finditer(text)]
    names = {name.strip() for found in GROUPING.finditer(text) for name in found["names"].split(",")}
    return Query(series, names - {""})


def list_series() -> dict[str, set[str]]:
    """Every series that a process may expose, with its labels."""
    return dict(_list_series()) | PROMETHEUS_OWN


def _list_series() -> Iterator[tuple[str, set[str]]]:
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for suffix in SUFFIXES[type(metric)]:
                labels = {*metric._labelnames, *(("le",) if suffix == "_bucket" else ()), *(INFO if suffix == "_info" else ())}
                yield f"{metric._name}{suffix}", labels


INFO = ("version", "side", "role")


def find_faults(text: str, known: dict[str, set[str]]) -> list[str]:
    """What a query names that is not there."""
    query, faults, at_hand = read_query(text), [], set(TARGET_LABELS)
    for name, labels in query.series:
        if name not in known:
            faults.append(f"there is no {name}")
            continue
        at_hand |= known[name]
        faults += [f"{name} has no label {label}" for label in sorted(labels - known[name] - TARGET_LABELS)]
    faults += [f"nothing in it has the label {label}" for label in sorted(query.grouped_by - at_hand)]
    return faults if query.series else ["it names no metric of ours"]
