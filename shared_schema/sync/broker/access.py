"""Users and rights at a secured broker, through kafka-python's admin client: aiokafka's knows neither. Its calls block, so each runs in a
thread, on a connection of its own; they are rare.

A right names the beginning of a topic's name up to the direction, so that it opens that direction's blobs too and no other partnership:
`dealbridge.acme` would open `dealbridge.acme-2` as well.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.errors import ClusterAuthorizationFailedError, KafkaError, SecurityDisabledError

from shared_schema.contract.registers import Side
from shared_schema.contract.topics import TOPIC_PREFIX, other, record_topic
from shared_schema.sync.broker.reasons import MECHANISM, client_options, find_reason, say
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.security import Security
from shared_schema.sync.transport import AccessDenied, BrokerUnavailable

ANSWER_DEADLINE_S = 10.0
ITERATIONS = 8_192
DISMISSED = 8_191  # iterations: the one thing about a user's secret that everybody is told
CLUSTER = "kafka-cluster"
Right = tuple[ResourceType, str, ACLOperation]
VENDOR_RIGHTS: tuple[Right, ...] = (
    *(
        (ResourceType.TOPIC, TOPIC_PREFIX, operation)
        for operation in (ACLOperation.READ, ACLOperation.WRITE, ACLOperation.CREATE, ACLOperation.DESCRIBE_CONFIGS)
    ),
    (ResourceType.GROUP, TOPIC_PREFIX, ACLOperation.READ),  # the statistics follow the topics as a group
    (ResourceType.CLUSTER, CLUSTER, ACLOperation.ALTER),  # to make users and rights: whoever has this can give themselves any
    (ResourceType.CLUSTER, CLUSTER, ACLOperation.DESCRIBE),
)


def side_rights(partnership: str, side: Side) -> list[Right]:
    """What one side of a partnership needs: to write its own direction and read both, its own to find out what it once said; and groups of
    its own for its statistics."""
    own, peers = record_topic(partnership, side), record_topic(partnership, other(side))
    return [
        (ResourceType.TOPIC, own, ACLOperation.WRITE),
        (ResourceType.TOPIC, own, ACLOperation.READ),
        (ResourceType.TOPIC, peers, ACLOperation.READ),
        (ResourceType.GROUP, f"{TOPIC_PREFIX}{partnership}.insights-{side}.", ACLOperation.READ),
    ]


def make_acl(user: str, right: Right) -> ACL:
    kind, name, operation = right
    pattern = ACLResourcePatternType.LITERAL if kind == ResourceType.CLUSTER else ACLResourcePatternType.PREFIXED
    return ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(kind, name, pattern))


def all_of(user: str) -> ACLFilter:
    """Every right of a user, whatever it is to."""
    anything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    return ACLFilter(f"User:{user}", None, ACLOperation.ANY, ACLPermissionType.ANY, anything)


class KafkaGate:
    """The vendor's hand on who comes in."""

    def __init__(self, address: str, security: Security, answer_s: float = ANSWER_DEADLINE_S) -> None:
        self.address = address
        self.security = security
        self.answer_s = answer_s
        logging.getLogger("kafka").setLevel(logging.ERROR)  # at level debug it would log its configuration with the password

    async def list_users(self) -> list[str]:
        def look(admin: Any) -> list[str]:
            admin.describe_acls(
                all_of("nobody")
            )  # needs the same right, and its refusal arrives: the client waits for ever for the other's
            return find_users(admin.describe_user_scram_credentials())

        return list(await self.ask(look))

    async def admit(self, user: str, password: str) -> None:
        await self.ask(lambda admin: alter_users(admin, [UserScramCredentialUpsertion(user, MECHANISM, password, ITERATIONS)]))

    async def allow(self, users: Sequence[str], partnership: str, side: Side) -> None:
        await self.grant(users, side_rights(partnership, side))

    async def allow_vendor(self, user: str) -> None:
        """Let a user do what a vendor's node does: all topics of Dealbridge, and the users and rights of its partners."""
        await self.grant([user], VENDOR_RIGHTS)

    async def grant(self, users: Sequence[str], rights: Sequence[Right]) -> None:
        wanted = [make_acl(user, right) for user in users for right in rights]
        await self.ask(lambda admin: check_created(admin.create_acls(wanted)))

    async def deny(self, users: Sequence[str]) -> None:
        await self.ask(lambda admin: delete_rights(admin, users))

    async def dismiss(self, users: Sequence[str]) -> None:
        """The rights first: a user without rights does no harm, rights without a user wait for somebody to take its name.

        The user stays with a password that nobody knows. A broker (4.1.1) that reads the removal of one at its start, among the others of
        one batch, may forget all of them: they are collected by name, and a first that is gone takes the mechanism with it."""

        def both(admin: Any) -> None:
            delete_rights(admin, users)
            known = set(find_users(admin.describe_user_scram_credentials()))
            gone = [user for user in users if user in known]
            alter_users(admin, [UserScramCredentialUpsertion(user, MECHANISM, draw_secret(), DISMISSED) for user in gone])

        await self.ask(both)

    async def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer to one question, under our own deadline; whatever goes wrong is told as why."""
        reason = await find_reason(self.address, self.security, self.answer_s)
        if reason is not None:
            raise reason
        try:
            async with asyncio.timeout(self.answer_s):
                return await asyncio.to_thread(self.ask_blocking, question)
        except ClusterAuthorizationFailedError as error:
            user = self.security.read_credential().user
            message = f"the user {user} may not make users and rights at {self.address}; grant it Alter and Describe on the cluster"
            raise AccessDenied(message) from error
        except SecurityDisabledError as error:
            message = f"{self.address} has no authorizer, so no right can be given or taken; set authorizer.class.name at the broker"
            raise AccessDenied(message) from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(f"{self.address} did not do it ({say(error)}); try again") from error

    def ask_blocking(self, question: Callable[[Any], Any]) -> Any:
        deadline_ms = int(self.answer_s * 1000)
        admin = KafkaAdminClient(
            bootstrap_servers=self.address.split(","),
            request_timeout_ms=deadline_ms,
            bootstrap_timeout_ms=deadline_ms,
            **client_options(self.security),
        )
        try:
            return question(admin)
        finally:
            admin.close()


def alter_users(admin: Any, changes: Sequence[Any]) -> None:
    """Raises KafkaError for the first that was refused; the client hands on the broker's words alone."""
    if not changes:
        return
    for user, error in admin.alter_user_scram_credentials(changes).items():
        if error and "needs ALTER permission" in error:
            raise ClusterAuthorizationFailedError(user)
        if error:
            raise KafkaError(f"{user}: {error}")


def draw_secret() -> str:
    """A password that nobody is told."""
    return f"{SystemClock().random_bits(256):064x}"


def find_users(described: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Who may come in, of all that the broker has ever known."""
    return sorted(user for user, told in described.items() if any(each["iterations"] != DISMISSED for each in told["credential_infos"]))


def delete_rights(admin: Any, users: Sequence[str]) -> None:
    if not users:
        return
    for _, _, error in admin.delete_acls([all_of(user) for user in users]):
        if error.errno:
            raise error()


def check_created(result: dict[str, list[Any]]) -> None:
    for error in result["failed"]:
        raise error()
