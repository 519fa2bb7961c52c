"""Fixtures that every test may ask for: real servers, started once a session, and an empty store of either kind."""

from pathlib import Path

import pytest

from tests.kafka_fixture import kafka_address, secured_kafka
from tests.postgres import postgres, postgres_url
from tests.tidy_loop import TidyLoop

LONGEST = ("test_simulation.py", "test_assignments.py", "test_processes.py", "test_mutants.py")

__all__ = ["database_url", "kafka_address", "postgres", "postgres_url", "secured_kafka"]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of its own, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return str(request.getfixturevalue("postgres_url"))


def pytest_asyncio_loop_factories() -> dict[str, type[TidyLoop]]:
    """Every asynchronous test runs on a loop that leaves nothing of Kafka's client behind."""
    return {"tidy": TidyLoop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin, so that at the end no process waits for another's long one."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
