"""Makes two companies on one broker into partners: users and rights there, a first admin on each side, an invitation that is joined.

Safe to run again: it does what is missing and nothing else. What an operator has suspended or revoked stays so.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from deploy.stack.company import Company, load_company
from deploy.stack.keys import OPERATOR, ROOT
from shared_schema.crm import users
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.migrations import NotMigrated
from shared_schema.crm.problems import Problem
from shared_schema.sync import joining, partnerships
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.broker.access import KafkaGate
from shared_schema.sync.security import CredentialUnreadable, Security, write_secret
from shared_schema.sync.settings import BadSettings, secure
from shared_schema.sync.station import Author, Station
from shared_schema.sync.transport import BrokerError, BrokerUnavailable, BrokerUntrusted, CredentialRefused
from shared_schema.web.terminal import plant
from vendor_node import partners

ERRORS = (Problem, NotMigrated, DatabaseUnavailable, BadSettings, BrokerError, CredentialUnreadable)
PATIENCE_S = 120
PAUSE_S = 1.0
EMAIL = "admin@{side}.example"


class SetUpFailed(RuntimeError):
    """What could not be done, and what to do."""


def tell(text: str) -> None:
    print(text, flush=True)


async def admit_vendor(gate: KafkaGate, vendor: Company) -> None:
    """The vendor's node's user, with its rights. Raises BrokerError."""
    credential = secure(vendor.settings).read_credential()
    await gate.admit(credential.user, credential.password)
    await gate.allow_vendor(credential.user)


async def seed(company: Company, station: Station) -> None:
    """A first admin, whose token goes into a file; nothing where there are people already."""
    async with station.database.reading() as connection:
        known = await users.list_users(connection)
    if known:
        return
    async with station.working() as work:
        token = await plant(work, EMAIL.format(side=company.spec.side), "Admin")
        write_secret(company.token_file, token + "\n")  # before the commit: a token that nobody has would be the worse half


async def pair(vendor: Station, partner: Station, broker: KafkaBroker, companies: tuple[Company, Company]) -> str:
    """Invite and join, or what of it is missing; how it stands. Raises SetUpFailed."""
    own, other = companies
    name, address = other.settings.organisation, other.settings.kafka
    known = await find_partnership(vendor, name)
    if known is not None and known["status"] != "active":
        return f"{name} is {known['status']}, and stays so"
    if known is None:
        done = await partners.invite(vendor, Author(), broker, partners.Way(own.settings.organisation, name, address))
    elif await has_joined(partner, other, known["id"], address):
        return f"{name} has joined"
    else:
        done = await partners.rotate(vendor, Author(), broker, known["id"], address)
    if done.bundle is None or not done.complete:
        raise SetUpFailed(done.remedy or "there is no bundle")
    await joining.join(partner, Author(), other.brokers, done.bundle)
    await partners.retire(vendor, Author(), broker, done.partnership)
    return f"{name} has joined as {done.partnership}"


async def find_partnership(vendor: Station, name: str) -> dict[str, Any] | None:
    """The newest one with this partner."""
    async with vendor.database.reading() as connection:
        rows = [row for row in await partnerships.list_all(connection) if row["peer_name"] == name]
    return rows[-1] if rows else None


async def has_joined(partner: Station, company: Company, partnership: str, address: str) -> bool:
    """Whether the partner knows the partnership and has a credential for it at this address."""
    async with partner.database.reading() as connection:
        known = {row["id"] for row in await partnerships.list_all(connection)}
    way = joining.find_way(company.brokers, partnership, "")
    return partnership in known and way is not None and way[0] == address


async def set_up(gate: KafkaGate, own: Company, other: Company, patience_s: float = PATIENCE_S) -> None:
    """Everything, once broker and stores answer; what was done before that is not done again. Raises what is in the way then, and
    TimeoutError."""
    said = ""
    async with asyncio.timeout(patience_s):
        while True:
            try:
                await make_partners(gate, own, other)
                return
            except (BrokerUnavailable, DatabaseUnavailable) as error:
                if isinstance(error, CredentialRefused | BrokerUntrusted):
                    raise
                if str(error) != said:
                    said = str(error)
                    tell(f"waiting: {said}")
                await asyncio.sleep(PAUSE_S)


async def make_partners(gate: KafkaGate, own: Company, other: Company) -> None:
    await admit_vendor(gate, own)
    broker = KafkaBroker(gate.address, secure(own.settings))
    await broker.start()
    try:
        async with own.open() as vendor, other.open() as partner:
            await seed(own, vendor)
            await seed(other, partner)
            tell(await pair(vendor, partner, broker, (own, other)))
    finally:
        await broker.stop()


def operator_gate(root: Path, address: str) -> KafkaGate:
    return KafkaGate(address, Security("sasl_tls", root / "broker/ca.pem", OPERATOR, "", root / f"broker/{OPERATOR}-password"))


def main() -> None:
    try:
        gate = operator_gate(ROOT, os.environ["BROKER_ADDRESS"])
        asyncio.run(set_up(gate, load_company("vendor", ROOT), load_company("partner", ROOT)))
    except TimeoutError:
        sys.exit(f"set-up: not done after {PATIENCE_S} s; the last line above says what was waited for")
    except (*ERRORS, SetUpFailed) as error:
        sys.exit(f"set-up: {error}")


if __name__ == "__main__":
    main()
