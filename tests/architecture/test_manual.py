"""The operator's page tells of every service and every setting there is, and each of its commands is run by `make test-compose`."""

import re

import yaml

from tests.architecture.house import ROOT
from tests.compose.__main__ import STEPS
from tests.compose.stand import SCRIPT

DEPLOY = ROOT / "deploy"
PAGE = (DEPLOY / "README.md").read_text()
COMPOSE = (DEPLOY / "compose.yaml").read_text()
OF_UP = {"BROKER_PROXY", "VENDOR_KAFKA", "PARTNER_KAFKA", "VENDOR_STORE", "PARTNER_STORE"}  # `make up ARGS=chaos` sets them
SERVED = {"demo", "toxiproxy", "grafana"}  # by profile


def test_every_command_of_the_page_is_run() -> None:
    named = dict(SCRIPT.findall(PAGE))
    assert len(named) > 10 and len(re.findall(r"^```", PAGE, flags=re.MULTILINE)) == 2 * len(named)
    run = "".join(path.read_text() for path in (ROOT / "tests/compose").glob("*.py"))
    for name in named:
        sides = [name.replace(side, "{place}", 1) for side in ("vendor", "partner")]
        assert f'"{name}"' in run or any(f'"{each}"' in run for each in sides), name
    assert len(STEPS) > 10


def test_every_make_target_of_the_page_is_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)", PAGE)) <= targets


def test_every_setting_of_the_compose_file_is_told_with_its_default_and_no_other() -> None:
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE))
    table = PAGE.partition("can be set goes into")[2].partition("\n### ")[0]
    told: dict[str, str] = {}
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|", table, flags=re.MULTILINE):
        names, defaults = (re.findall(r"`([^`]+)`", cell) for cell in row)
        told |= dict(zip(names, defaults, strict=True))
    assert told == {name: default for name, default in used.items() if name not in OF_UP}


def test_every_service_is_told() -> None:
    table = PAGE.partition("### What runs")[2].partition("\n### ")[0]
    cells = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `")]
    told = {name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)}
    assert told == set(yaml.safe_load(COMPOSE)["services"]) - SERVED
    assert all(f"`{name}`" in PAGE for name in ("demo", "grafana"))
