"""A run of chaos can be had again: the same plan is the same schedule, and a run that failed leaves its plan."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.run import Injected, Plan
from tests.chaos.schedule import PUT_BACK, TOOLED, Fault
from tests.chaos.watch import Look, Moment


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
    rare = [(fault.what, fault.side) for fault in faults if fault.what in ("copy made", PUT_BACK)]
    assert [what for what, _ in rare] == ["copy made", PUT_BACK] * 2
    assert rare[0][1] == rare[1][1] and rare[2][1] == rare[3][1]
    assert sum(fault.what == "topic deleted" for fault in faults) == 1
    assert all(fault.at_s < seconds for fault in faults)


def test_a_fault_was_alone_where_both_were_in_step_before_it_and_again_before_the_next() -> None:
    faults = [
        Injected(Fault(at, "broker killed"), *times)
        for at, *times in ((1, 1, 2, 3), (4, 4, 5, 1), (7, 7, 8, 1), (9, 9, 9, None), (20, 20, 21, 1))
    ]
    assert report.find_alone(faults) == [faults[2]]
    assert report.find_alone(faults[2:3] + faults[4:]) == [faults[2], faults[4]]


async def test_both_are_in_step_once_nothing_of_before_is_unacknowledged_and_a_store_that_went_back_is_restored() -> None:
    settled, behind = Look(float("inf"), {"vendor": 0}), Look(100, {"vendor": 50})
    ordinary, earlier = (Moment(at_ms, 0, "", 0, asyncio.Future()) for at_ms in (100, 99))
    went_back = Moment(99, 0, "vendor", 50, asyncio.Future())
    assert settled.is_in_step(ordinary) and not behind.is_in_step(ordinary) and behind.is_in_step(earlier)
    assert behind.is_in_step(went_back) and not settled.is_in_step(went_back)


def test_a_run_that_failed_is_replayed_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FAILED", tmp_path / "failed")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "partner-people.jsonl").write_text("{}\n")
    plan = Plan("sqlite", 60, "seed", {"vendor": "tells private notes"}, tools=("links",), disk="/small")
    folder = report.keep_failed(plan, tmp_path / "run", ["lost: something"])
    assert report.read_plan(folder) == plan
    assert {each.name for each in folder.iterdir()} == {"partner-people.jsonl", "plan.json", "schedule.txt", "defects.txt"}
