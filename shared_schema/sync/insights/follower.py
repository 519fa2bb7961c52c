"""Follows topics through faust, read-only, under a consumer group of its own that nobody else looks at and that starts from the beginning
each time. No table, no changelog, no leader topic: nothing is ever written to the broker.
"""

import asyncio
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import faust

from shared_schema.contract.topics import TOPIC_PREFIX
from shared_schema.sync.broker import FAILURES, client_options, say
from shared_schema.sync.closing import close_within
from shared_schema.sync.security import Security
from shared_schema.sync.transport import BrokerUnavailable

COMMIT_S = 1.0
BREATH_RECORDS = 64  # after so many others have a turn: a full buffer would not let go


class Seen(NamedTuple):
    """A record as faust gives it."""

    topic: str
    offset: int
    headers: dict[str, bytes]
    value: bytes | None


class Follower:
    """The topics of one broker under one user. `look` is called for each record in its topic's order, and never twice; it may not raise."""

    def __init__(self, address: str, security: Security, group: str, topics: list[str], look: Callable[[Seen], None]) -> None:
        self.look = look
        self.read_to: dict[str, int] = {}
        self.directory = TemporaryDirectory(prefix="dealbridge-insights-")  # faust makes one, though no table needs it
        self.app = make_app(address, security, f"{TOPIC_PREFIX}{group}", self.directory.name)
        channel = self.app.topic(*topics, key_serializer="raw", value_serializer="raw", value_type=bytes)
        self.app.agent(channel, name="insights")(self.follow)

    async def start(self) -> None:
        """Raises BrokerUnavailable; it is to be stopped all the same."""
        try:
            await self.app.start()
        except FAILURES as error:
            raise BrokerUnavailable(f"faust can not begin: {say(error)}") from error

    async def stop(self) -> None:
        """Never hangs."""
        await close_within(self.app.stop)
        self.directory.cleanup()

    @property
    def failed(self) -> bool:
        return bool(self.app.crashed)

    async def follow(self, stream: Any) -> None:
        """A record that comes again, because the group was balanced anew, is not looked at again."""
        async for event in stream.events():
            message = event.message
            if message.offset >= self.read_to.get(message.topic, 0):
                self.read_to[message.topic] = message.offset + 1
                self.look(Seen(message.topic, message.offset, dict(message.headers or {}), event.value))
            if message.offset % BREATH_RECORDS == 0:
                await asyncio.sleep(0)


def make_app(address: str, security: Security, group: str, directory: str) -> faust.App:
    return faust.App(
        group,
        datadir=directory,
        broker=[f"kafka://{each.strip()}" for each in address.split(",")],
        broker_credentials=make_credentials(security),
        broker_client_id="dealbridge-insights",
        broker_commit_interval=COMMIT_S,
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        key_serializer="raw",
        value_serializer="raw",
    )


def make_credentials(security: Security) -> Any:
    """As any client of this node comes in, for faust. Raises BrokerUnavailable where they can not be read."""
    options = client_options(security)
    if security.protocol == "plaintext":
        return None
    if security.protocol == "tls":
        return faust.SSLCredentials(options["ssl_context"])
    return faust.SASLCredentials(
        username=options["sasl_plain_username"],
        password=options["sasl_plain_password"],
        ssl_context=options["ssl_context"],
        mechanism=options["sasl_mechanism"],
    )
