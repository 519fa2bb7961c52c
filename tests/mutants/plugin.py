"""Switches a wrong variant on for a whole pytest run: `pytest -p tests.mutants.plugin --variant 3`."""

import pytest
from hypothesis import Phase, settings

from tests.mutants.variants import VARIANTS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--variant", choices=list(VARIANTS), help="the wrong variant to switch on")


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile("mutants", deadline=None, database=None, phases=(Phase.explicit, Phase.generate))
    settings.load_profile("mutants")  # a variant is to be killed, not explained: no shrinking
    if name := config.getoption("--variant"):
        VARIANTS[name]().start()
