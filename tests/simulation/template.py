"""What the stores hold before a history begins. A stage is a directory: a store for each node, and what the broker has.

`bare`: people, a pipeline, reps, companies, a partnership, and a private note about the deal that will be the first. `shared`: the same
after a partner has shared three deals with the vendor. `three`: two partners of one vendor, each with a deal shared.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from sqlalchemy import Connection, create_engine

from partner_node.registrations import share_from_contact
from partner_node.spec import SPEC as PARTNER
from shared_schema.crm import customers, users
from shared_schema.crm.database import Database
from shared_schema.crm.tables import metadata
from shared_schema.sync import partnerships
from shared_schema.sync.station import NodeSpec, Station, Work
from tests.checker import KEEP_REMOVED
from tests.simulation.world import SHM, Play, World
from vendor_node import reps
from vendor_node.spec import SPEC as VENDOR

COMPANIES = ("Globex", "Umbrella", "Hooli", "Wonka")
OTHERS = ("Stark", "Wayne")
PARTNERS: Mapping[str, tuple[str, str, Sequence[str]]] = {
    "partner": ("Acme", "Paula", COMPANIES),
    "second": ("Cyberdyne", "Sarah", OTHERS),
}
KEEP_REACTIONS = (
    "CREATE TABLE done_reactions (kind TEXT)",
    "CREATE TRIGGER keep_reactions AFTER DELETE ON reactions BEGIN INSERT INTO done_reactions VALUES (OLD.kind); END",
)
DETAILS = {"intro_note": "hello", "pain": "much", "next_steps": "soon", "products": [{"sku": "CRM", "quantity": "3"}]}
LATER_S = 60.0
SECRET = "our margin is twenty-two per cent"


class StillClock:
    """One moment, and randomness from one seed."""

    def __init__(self, seed: str) -> None:
        self.random = Random(seed)

    def now_ms(self) -> int:
        return 1_789_999_000_000

    def random_bits(self, bits: int) -> int:
        return self.random.getrandbits(bits)


def make_template() -> Path:
    """The stages that histories begin on."""
    template = Path(tempfile.mkdtemp(prefix="dealbridge-template-", dir=SHM if SHM.is_dir() else None))
    for stage, names in (("bare", ("partner",)), ("bare-three", ("partner", "second"))):
        make_stores(template / stage, names)
        asyncio.run(plant(template / stage, names))
    play_on(template, "bare", "shared", share_three)
    play_on(template, "bare-three", "three", share_each)
    return template


def make_stores(stage: Path, names: Sequence[str]) -> None:
    stage.mkdir()
    for name in (*names, "vendor"):
        engine = create_engine(f"sqlite:///{stage}/{name}.db")
        with engine.begin() as connection:
            create_schema(connection)
            connection.exec_driver_sql("INSERT INTO private_notes (deal_id, body, created_ms) VALUES (1, ?, 0)", (secret_of(name),))
        engine.dispose()


def secret_of(name: str) -> str:
    """What a node keeps to itself."""
    return f"{SECRET}, says the {name}"


def create_schema(connection: Connection) -> None:
    metadata.create_all(connection)
    for statement in (*KEEP_REMOVED, *KEEP_REACTIONS):
        connection.exec_driver_sql(statement)


async def plant(stage: Path, names: Sequence[str]) -> None:
    vendor = open_station(VENDOR, stage, "vendor")
    async with vendor.working() as work:
        for name in ("Victor", "Vera"):
            await add_person(work, name)
        for user_id in (1, 2):
            await reps.add_rep(work.tx, user_id, {"weight": user_id})
        bundles = {name: await partnerships.invite(work, "Initech", PARTNERS[name][0], "memory") for name in names}
        await customers.add_pipeline(work.tx, "Sales", [("New", "open"), ("Won", "won")])
    await vendor.database.close()
    for name, bundle in bundles.items():
        station = open_station(PARTNER, stage, name)
        async with station.working() as work:
            await add_person(work, PARTNERS[name][1])
            for company in PARTNERS[name][2]:
                await add_customer(work, company)
            await partnerships.join(work, bundle)
            await customers.add_pipeline(work.tx, "Sales", [("New", "open"), ("Won", "won")])
        await station.database.close()


async def add_person(work: Work, name: str) -> None:
    await users.add_user(work.tx, work.incarnation.new_uid(), name, f"{name.lower()}@{work.side}.example", "rep")


async def add_customer(work: Work, name: str) -> None:
    domain = f"{name.lower()}.example"
    company_id = await customers.add_company(work.tx, {"name": name, "domain": domain, "country": "DE"}, work.now_ms)
    contact = {"name": f"Head of {name}", "email": f"ceo@{domain}", "company_id": company_id}
    await customers.add_contact(work.tx, contact, work.now_ms)


def open_station(spec: NodeSpec, stage: Path, name: str) -> Station:
    return Station(spec, Database(f"sqlite:///{stage}/{name}.db"), StillClock(name))


def play_on(template: Path, before: str, after: str, play: Play) -> None:
    world = World(f"the stage {after}", template, before)  # no history has this seed: none draws the same identities
    try:
        world.run(play)
        world.loop.now_s += LATER_S
        world.leave_as_stage(template / after)
    finally:
        world.clean_up()


async def share_three(world: World) -> None:
    for contact_id, name in enumerate(("One", "Two", "Three"), 1):
        await share_contact(world, "partner", contact_id, name)


async def share_each(world: World) -> None:
    for name in ("partner", "second"):
        await share_contact(world, name, 1, f"First of {name}")


async def share_contact(world: World, who: str, contact_id: int, name: str) -> None:
    """A deal of a contact of theirs, registered, decided on and given a rep."""
    partner = world.by_name[who]
    await partner.act("share", lambda work: share_from_contact(work, None, contact_id, {"name": name}, DETAILS))
    await world.until(lambda: not partner.rows("SELECT 1 FROM shared_deals WHERE rep_person IS NULL"), "the deal has a rep")


def drop_template(template: Path) -> None:
    shutil.rmtree(template, ignore_errors=True)
