"""The line to the broker: under whose name, under which deadline, and in which words it fails; one connection for questions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from shared_schema.sync.broker.health import Health
from shared_schema.sync.broker.reasons import FAILURES, client_options, find_reason, say
from shared_schema.sync.broker.topics import Forbidden
from shared_schema.sync.closing import close_within, own_cancellation_only, start_whole
from shared_schema.sync.security import CredentialUnreadable, Security
from shared_schema.sync.transport import AccessDenied, BrokerError, BrokerUnavailable

Answer = TypeVar("Answer")
FORBIDDING = (Forbidden, TopicAuthorizationFailedError, ClusterAuthorizationFailedError)


class Line:
    """What the broker, its producers and its readers share."""

    def __init__(self, address: str, security: Security, answer_s: float) -> None:
        self.address = address
        self.security = security
        self.answer_s = answer_s
        self.health = Health()
        self.admin: AIOKafkaAdminClient | None = None
        self.admin_turn = asyncio.Lock()
        self.probe_turn = asyncio.Lock()
        self.probed_s = 0.0
        self.reason: BrokerUnavailable | None = None

    async def drop_admin(self) -> None:
        admin, self.admin = self.admin, None
        if admin is not None:
            await close_within(admin.close)

    @asynccontextmanager
    async def answering(self, deadline_s: float, topic: str = "", trying: str = "") -> AsyncIterator[None]:
        """Turn a late answer, and whatever Kafka's client raises, into a BrokerError that says why; it stays noted until `be_well`."""
        try:
            async with asyncio.timeout(deadline_s):
                with own_cancellation_only():
                    yield
        except FORBIDDING as error:
            raise self.deny(error, topic, trying) from error
        except FAILURES as error:
            raise await self.explain(error, deadline_s) from error
        except BrokerUnavailable as error:
            self.health.note(error)
            raise

    def be_well(self, topic: str = "", trying: str = "") -> None:
        """The broker has done what it was asked for: evidence, which silence is not."""
        self.health.clear()
        self.health.clear(topic, trying)

    def deny(self, error: Exception, topic: str, trying: str) -> AccessDenied:
        try:
            user = self.security.read_credential().user or "ANONYMOUS"
        except CredentialUnreadable:
            user = "we"
        remedy = "ask the vendor whether the partnership is suspended (`partners resume` grants it again)"
        denied = AccessDenied(f"{self.address} knows the user {user}, who has no right to {trying} {topic or error}; {remedy}")
        if topic:
            self.health.note(denied, topic, trying)
        return denied

    async def explain(self, error: Exception, deadline_s: float) -> BrokerError:
        """Why the client failed; if we do get in, in its own words."""
        if isinstance(error, OffsetOutOfRangeError):
            return BrokerUnavailable(say(error))
        reason = await self.probe()
        if reason is None:
            said = say(error) if isinstance(error, KafkaError) else f"no answer within {deadline_s:.0f} s ({say(error)})"
            return BrokerUnavailable(f"{self.address} lets us in, and then: {said}")
        self.health.note(reason)
        return reason

    async def probe(self) -> BrokerUnavailable | None:
        """One connection of our own tells all who wait for it why the clients fail."""
        asked_s = asyncio.get_running_loop().time()
        async with self.probe_turn:
            if self.probed_s < asked_s:
                self.reason = await find_reason(self.address, self.security, self.answer_s)
                self.probed_s = asyncio.get_running_loop().time()
            return self.reason

    async def ask(self, question: Callable[[AIOKafkaAdminClient], Awaitable[Answer]], topic: str = "", trying: str = "") -> Answer:
        """Put a question through the admin client, one at a time; a failure drops it, so that the next caller connects anew."""
        async with self.admin_turn:
            try:
                async with self.answering(self.answer_s, topic, trying):
                    answer = await self.ask_twice(question)
                self.be_well(topic, trying)
                return answer
            except BaseException:
                await self.drop_admin()
                raise

    async def ask_twice(self, question: Callable[[AIOKafkaAdminClient], Awaitable[Answer]]) -> Answer:
        """A broker ends a connection whose session is over when it is next used: that is no outage, and a new one is opened."""
        if self.admin is not None:
            try:
                return await question(self.admin)
            except KafkaConnectionError:
                await self.drop_admin()
        deadline_ms = int(self.answer_s * 1000)
        self.admin = AIOKafkaAdminClient(bootstrap_servers=self.address, request_timeout_ms=deadline_ms, **client_options(self.security))
        await start_whole(self.admin.start)
        return await question(self.admin)

    def options(self) -> dict[str, Any]:
        """How a client comes in, as the credential is now."""
        try:
            return client_options(self.security)
        except BrokerUnavailable as error:
            self.health.note(error)
            raise

    async def start_client(self, start: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a producer or consumer, or leave nothing of it behind."""
        try:
            async with self.answering(self.answer_s):
                await start_whole(start)
            self.be_well()
        except BaseException:
            await close_within(stop)
            raise
