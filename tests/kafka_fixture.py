"""A real Kafka for the tests that need one: the one of DEALBRIDGE_KAFKA, else an embedded one, started once a session."""

from collections.abc import Iterator

import pytest

from deploy.kafka.embedded import KafkaUnavailable, running_kafka


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """host:port of a running broker; without Java and Maven the test fails and says what to install."""
    running = running_kafka()
    try:
        address = running.__enter__()
    except KafkaUnavailable as error:
        pytest.fail(str(error))
    try:
        yield address
    finally:
        running.__exit__(None, None, None)
