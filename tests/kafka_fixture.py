"""A real Kafka for the tests that need one, started once a session: DEALBRIDGE_KAFKA's, else an embedded one; and a secured one."""

from collections.abc import Iterator

import pytest

from deploy.kafka.embedded import KafkaUnavailable, running_kafka
from deploy.kafka.secured import SecuredKafka

REAUTH_MS = 3_000  # short, so that every test lives through ends of connections


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


@pytest.fixture(scope="session")
def secured_kafka() -> Iterator[SecuredKafka]:
    """A running broker with TLS, users and ACLs; nobody is allowed anything yet."""
    kafka = SecuredKafka(reauth_ms=REAUTH_MS)
    try:
        kafka.start()
    except KafkaUnavailable as error:
        pytest.fail(str(error))
    try:
        yield kafka
    finally:
        kafka.stop()
