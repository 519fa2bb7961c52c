"""A run of chaos can be had again: the same plan is the same schedule, and a run that failed leaves its plan."""

from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.run import Plan
from tests.chaos.schedule import TOOLED


def test_the_same_plan_has_the_same_faults_and_another_seed_has_others() -> None:
    plan = Plan("postgresql", 300, "one")
    assert plan.schedule() == Plan("postgresql", 300, "one").schedule() != Plan("postgresql", 300, "two").schedule()
    assert "database killed" in {fault.what for fault in plan.schedule()}
    assert "database killed" not in {fault.what for fault in Plan("sqlite", 300, "one").schedule()}


@pytest.mark.parametrize(("store", "ends"), [("sqlite", {"broker"}), ("postgresql", {"broker", "database"})])
def test_what_needs_a_tool_is_drawn_only_where_the_plan_names_it(store: str, ends: set[str]) -> None:
    alone = {fault.what for fault in Plan(store, 3_600, "one").schedule()}
    for tool, weights in TOOLED.items():
        with_tool = Plan(store, 3_600, "one", tools=(tool,)).schedule()
        assert alone.isdisjoint(weights) and weights.keys() <= {fault.what for fault in with_tool}
        links = [fault for fault in with_tool if fault.what.startswith("link")]
        assert {fault.process for fault in links} == (ends if tool == "links" else set())


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("seconds", [10, 60, 1800])
def test_every_schedule_puts_two_copies_back_each_after_it_was_made_and_loses_one_topic(seed: int, seconds: float) -> None:
    faults = Plan("sqlite", seconds, str(seed)).schedule()
    rare = [(fault.what, fault.side) for fault in faults if fault.what in ("copy made", "older copy put back")]
    assert [what for what, _ in rare] == ["copy made", "older copy put back"] * 2
    assert rare[0][1] == rare[1][1] and rare[2][1] == rare[3][1]
    assert sum(fault.what == "topic deleted" for fault in faults) == 1
    assert all(fault.at_s < seconds for fault in faults)


def test_a_run_that_failed_is_replayed_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FAILED", tmp_path / "failed")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "partner-people.jsonl").write_text("{}\n")
    plan = Plan("sqlite", 60, "seed", {"vendor": "tells private notes"}, tools=("links",), disk="/small")
    folder = report.keep_failed(plan, tmp_path / "run", ["lost: something"])
    assert report.read_plan(folder) == plan
    assert {each.name for each in folder.iterdir()} == {"partner-people.jsonl", "plan.json", "schedule.txt", "defects.txt"}
