"""schemathesis throws what it can think of at every operation of both nodes: nothing may be a server error."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error

from tests.web.conftest import Api, running

EXAMPLES = 20


@pytest.fixture(scope="module", params=["partner", "vendor"])
def fuzzed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    path: Path = tmp_path_factory.mktemp(request.param)
    with running(request.param, f"sqlite:///{path}/store.db") as api:
        yield api


def test_no_operation_ends_in_a_server_error(fuzzed: Api) -> None:
    schema = schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 40
    failures = [f"{operation.label}: {failure}" for operation in operations if (failure := throw(fuzzed, operation))]
    assert not failures, "\n".join(failures)


def throw(api: Api, operation: object) -> str | None:
    """Throw some requests at an operation; the first that ended in a server error."""
    headers = {"Authorization": f"Bearer {api.token}"}
    quick = settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @quick
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        response = case.call(headers=headers)
        case.validate_response(response, checks=[not_a_server_error])

    try:
        check()
    except Exception as failure:  # whatever it is, the other operations are tried too
        return " ".join(str(failure).split())[:600]
    return None
