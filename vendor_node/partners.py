"""A vendor's partners at the broker, from the invitation to the end: their topics, their users and rights, and the bundles that tell them.

The store says how it is meant; what is done at the broker follows, may fail on its own, and may be done again. A user is named after the
partnership and a number, so that an old and a new credential work side by side until the old one is retired.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from shared_schema.contract.topics import all_topics
from shared_schema.crm.problems import WrongState
from shared_schema.sync import partnerships
from shared_schema.sync.clock import Clock
from shared_schema.sync.journal import note
from shared_schema.sync.security import PASSWORD_BITS, Credential, CredentialUnreadable
from shared_schema.sync.station import Author, Station
from shared_schema.sync.transport import Broker, BrokerError, Gate

NO_USERS = "this broker has no users: whoever reaches it can read and write everything; see deploy/security.md"


class Done(NamedTuple):
    """What came of it. `remedy` says what is still to do, or what this broker can not do; `complete` is whether it may be left at that."""

    partnership: str
    status: str
    bundle: dict[str, Any] | None = None
    remedy: str | None = None
    complete: bool = True


class Way(NamedTuple):
    """The names of both companies, and the broker's address where the partner reaches it (None: as this node does)."""

    own_name: str
    peer_name: str
    address: str | None = None


async def invite(station: Station, author: Author, broker: Broker, way: Way, terms: dict[str, Any] | None = None) -> Done:
    """Begin a partnership: its topics, a user with its rights, and the bundle that holds the password, this once."""
    async with station.working(author) as work:
        address = way.address or broker.address
        bundle = await partnerships.invite(work, way.own_name, way.peer_name, address, terms)
        await note(work, bundle["partnership"], None, "partner invited", way.peer_name)
    return await equip(station, author, broker, bundle)


async def rotate(station: Station, author: Author, broker: Broker, partnership: str, address: str | None = None) -> Done:
    """A second credential in a new bundle; the one before works until it is retired."""
    async with station.database.reading() as connection:
        row = await partnerships.load(connection, partnership)
    check_active(row)
    return await equip(station, author, broker, partnerships.make_bundle(row, address))


def check_active(row: dict[str, Any]) -> None:
    if row["status"] != "active":
        remedy = "`partners resume` first" if row["status"] == "suspended" else "invite them anew: that is another partnership"
        raise WrongState(f"the partnership with {row['peer_name']} is {row['status']}", remedy=remedy)


async def equip(station: Station, author: Author, broker: Broker, bundle: dict[str, Any]) -> Done:
    """Topics and user of an active partnership; the bundle whole, or what to do when the broker is back."""
    partnership = bundle["partnership"]
    try:
        ca = broker.security.read_ca()
        await broker.create_topics(all_topics(partnership))
        credential = await make_credential(broker.gate, station.clock, partnership) if broker.gate else None
    except (BrokerError, CredentialUnreadable) as error:
        remedy = f"{error}. Then `vendor-node partners rotate {partnership} FILE` makes topics, user and bundle"
        return Done(partnership, "active", None if broker.gate else bundle, remedy, complete=False)
    bundle = {**bundle, "security": broker.security.protocol, "ca": ca}
    if credential is None:
        return Done(partnership, "active", bundle, NO_USERS)
    async with station.working(author) as work:
        await note(work, partnership, None, "credential made", credential.user)
    return Done(partnership, "active", {**bundle, "credential": credential._asdict()})


async def make_credential(gate: Gate, clock: Clock, partnership: str) -> Credential:
    """The partnership's next user, who may do what its partner may."""
    known = users_of(partnership, await gate.list_users())
    number = number_of(known[-1]) + 1 if known else 1
    raw = clock.random_bits(PASSWORD_BITS).to_bytes(PASSWORD_BITS // 8, "big")
    credential = Credential(f"{partnership}.{number}", base64.urlsafe_b64encode(raw).decode().rstrip("="))
    await gate.admit(*credential)
    await gate.allow([credential.user], partnership, "partner")
    return credential


def users_of(partnership: str, users: Iterable[str]) -> list[str]:
    """The users of a partnership among all, oldest first. A partnership has no dot in it, so another's are none of its."""
    own = re.compile(rf"{re.escape(partnership)}\.[0-9]+")
    return sorted((user for user in users if own.fullmatch(user)), key=number_of)


def number_of(user: str) -> int:
    return int(user.rpartition(".")[2])


async def retire(station: Station, author: Author, broker: Broker, partnership: str) -> Done:
    """End all credentials but the newest: once the partner has joined with that one's bundle."""
    async with station.database.reading() as connection:
        row = await partnerships.load(connection, partnership)
    if broker.gate is None:
        return Done(partnership, row["status"], remedy=NO_USERS)
    old = users_of(partnership, await broker.gate.list_users())[:-1]
    await broker.gate.dismiss(old)
    async with station.working(author) as work:
        await note(work, partnership, None, "credentials retired", ", ".join(old) or "there was none but the newest")
    return Done(partnership, row["status"])


async def change_status(station: Station, author: Author, broker: Broker, partnership: str, status: str) -> Done:
    """Suspend (suspended), resume (active) or revoke (terminated) a partner: here at once, then at the broker."""
    async with station.working(author) as work:
        await partnerships.change_status(work, partnership, status)
    try:
        known = await broker.gate.list_users() if broker.gate else []
        await enforce(broker, partnership, status, known)
    except BrokerError as error:
        remedy = f"{error}. It is so here and not yet at the broker: say it again, or wait until this node's sync has done it"
        return Done(partnership, status, remedy=remedy, complete=False)
    return Done(partnership, status, remedy=None if broker.gate else NO_USERS)


async def enforce(broker: Broker, partnership: str, status: str, known: Sequence[str]) -> None:
    """Bring a partnership's users among those `known` at the broker to what its status allows; again is harmless."""
    users = users_of(partnership, known)
    if broker.gate is None or not users:
        return
    if status == "active":
        await broker.gate.allow(users, partnership, "partner")
    elif status == "suspended":
        await broker.gate.deny(users)
    else:
        await broker.gate.dismiss(users)


async def make_topics(station: Station, broker: Broker, partnership: str) -> Done:
    """Create those of a partnership's topics that are missing; raises BrokerError."""
    async with station.database.reading() as connection:
        row = await partnerships.load(connection, partnership)
    check_active(row)
    await broker.create_topics(all_topics(partnership))
    return Done(partnership, row["status"])
