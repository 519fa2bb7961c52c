"""The dashboard as data: each of its queries names what the code or a recording rule has, its panels fit, and it shows what it promises."""

import json
import shutil
import subprocess
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.test_alerts import known_series, load
from tests.architecture.test_promises import ROOT
from tests.metric_queries import find_faults, read_query

GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "dealbridge.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", [])]
SHOWN = {
    "dealbridge:out_of_step:count": {"side", "partnership"},
    "dealbridge:one_way_lag_seconds:p50_5m": {"side", "partnership"},
    "dealbridge:one_way_lag_seconds:p99_5m": {"side", "partnership"},
    "dealbridge_outbox_backlog_rows": {"side", "partnership"},
    "dealbridge_unacknowledged_rows": {"side", "partnership"},
    "dealbridge_conflicts_total": {"side", "partnership"},
    "dealbridge_parked_records": {"side", "partnership"},
    "dealbridge_refused_fields": {"side", "partnership"},
    "dealbridge_assignments_total": {"side"},
    "dealbridge_peer_last_seen_age_seconds": {"side", "partnership"},
}


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_each_query_names_metrics_and_labels_that_there_are(title: str, query: str) -> None:
    assert not find_faults(query, known_series()), title


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not here (Debian: prometheus): queries were not parsed, only read"
)
def test_each_query_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{place}", "expr": query} for place, (_, query) in enumerate(QUERIES)]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_an_operator_looks_for_is_shown_for_the_side_and_partnership_that_are_chosen() -> None:
    series = [each for _, query in QUERIES for each in read_query(query).series]
    for name, labels in SHOWN.items():
        assert labels <= next((given for shown, given in series if shown == name), set()), name
    assert {"kind", "field"} <= next(read_query(query).grouped_by for _, query in QUERIES if "conflicts_total" in query)
    assert {"rep", "method"} <= next(read_query(query).grouped_by for _, query in QUERIES if "assignments_total" in query)
    chosen = {variable["name"]: variable["definition"] for variable in DASHBOARD["templating"]["list"]}
    assert set(chosen) == {"side", "partnership"}
    assert not [fault for definition in chosen.values() for fault in find_faults(definition, known_series())]


def test_panels_have_names_units_and_places_of_their_own() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids)) and all(before < after for before, after in pairwise(ids))
    assert all(panel["title"] for panel in DASHBOARD["panels"])
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS if "targets" in panel)
    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    return across and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    [source] = load(GRAFANA / "datasources" / "prometheus.yml")["datasources"]
    asked: set[Any] = {panel["datasource"]["uid"] for panel in PANELS if "datasource" in panel}
    assert asked == {source["uid"]} and source["type"] == "prometheus"
    [provider] = load(GRAFANA / "dashboards" / "dealbridge.yml")["providers"]
    assert provider["type"] == "file" and provider["options"]["path"]
