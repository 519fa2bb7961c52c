"""Every alert names metrics and labels that the code has, is tested, and has a runbook page whose commands exist. The rules' behaviour is
tested by Prometheus' own promtool (`make test-rules`); here too where it is installed."""

import re
import shlex
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

import partner_node.cli
import vendor_node.cli
from tests.architecture.test_promises import ROOT
from tests.metric_queries import find_faults, list_series

PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOK = ROOT / "deploy" / "runbook"
HEADINGS = ("## What it means", "## What to look at", "## What to do")
PROGRAMS = {"vendor-node": vendor_node.cli.build, "partner-node": partner_node.cli.build}
COMMAND = re.compile(r"^\s*(?:(?P<line>(?:vendor|partner)-node .*)$)|`(?P<inline>(?:vendor|partner)-node [^`]*)`", re.MULTILINE)
PAGES = sorted(RUNBOOK.glob("*.md"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


RULES = [rule for path in sorted((PROMETHEUS / "rules").glob("*.yml")) for group in load(path)["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = [rule for rule in RULES if "record" in rule]


def known_series() -> dict[str, set[str]]:
    """The code's own, and what the recording rules make of them: with the labels that they group by."""
    grouped = {rule["record"]: set(re.split(r",\s*", re.search(r"by \(([^)]*)\)", rule["expr"])[1])) - {"le"} for rule in RECORDED}  # type: ignore[index]  # each groups
    return list_series() | grouped


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_each_rule_names_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    assert not find_faults(rule["expr"], known_series())


def test_a_rule_that_names_what_is_not_there_is_found_out() -> None:
    known = known_series()
    assert find_faults("max by (side) (dealbridge_parked_record)", known) == ["there is no dealbridge_parked_record"]
    assert find_faults('dealbridge_parked_records{kind="deal"} > 0', known) == ["dealbridge_parked_records has no label kind"]
    assert find_faults("sum by (rep) (dealbridge_gaps_events)", known) == ["nothing in it has the label rep"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_says_how_urgent_it_is_and_where_its_page_is(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket") and alert["annotations"]["summary"]
    page = ROOT / alert["annotations"]["runbook"]
    assert page == RUNBOOK / f"{alert['alert']}.md"
    text = page.read_text()
    places = [text.find(heading) for heading in HEADINGS]
    assert text.startswith(f"# {alert['alert']}\n") and -1 not in places and places == sorted(places)
    named = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
    grouped = set(chain.from_iterable(re.findall(r"\w+", each) for each in re.findall(r"by \(([^)]*)\)", alert["expr"])))
    assert named <= grouped | set().union(*(known_series()[name] for name in re.findall(r"\bdealbridge:[\w:]+|\bup\b", alert["expr"])))


def test_each_page_belongs_to_an_alert_and_each_alert_is_tested() -> None:
    names = {alert["alert"] for alert in ALERTS}
    assert {page.stem for page in PAGES} - {"README"} == names
    tested = {
        check["alertname"]
        for path in (PROMETHEUS / "tests").glob("*.yml")
        for each in load(path)["tests"]
        for check in each["alert_rule_test"]
    }
    assert tested == names


def test_what_an_alert_hushes_is_an_alert_and_everybody_told_is_named() -> None:
    settings = load(ROOT / "deploy" / "alertmanager" / "alertmanager.yml")
    names = {alert["alert"] for alert in ALERTS}
    for rule in settings["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            assert set(re.search(r'"(.*)"', matcher)[1].split("|")) <= names  # type: ignore[index]  # each has quotes
    told = {settings["route"]["receiver"], *(route["receiver"] for route in settings["route"]["routes"])}
    assert told <= {receiver["name"] for receiver in settings["receivers"]}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_exists_and_takes_what_it_is_given(page: Path) -> None:
    for found in COMMAND.finditer(page.read_text()):
        program, *words = shlex.split(found["line"] or found["inline"])
        command: Any = typer.main.get_command(PROGRAMS[program]().app)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, f"{page.name}: {program} has no command {words[0]}"
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), f"{page.name}: {found[0]} is not a whole command"
        command.make_context(program, words).close()  # raises for an option or argument that it does not take


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here (Debian: prometheus): the rules were not run, only read")
def test_the_rules_fire_when_they_should_and_not_before() -> None:
    for command in (
        ["check", "rules", *sorted((PROMETHEUS / "rules").glob("*.yml"))],
        ["test", "rules", *(PROMETHEUS / "tests").glob("*.yml")],
    ):
        ran = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
