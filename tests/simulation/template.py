"""What both stores hold before a history begins."""

from pathlib import Path
from random import Random

from partner_node.spec import SPEC as PARTNER
from shared_schema.crm import customers, users
from shared_schema.crm.database import Database
from shared_schema.sync import partnerships
from shared_schema.sync.station import NodeSpec, Station, Work
from vendor_node import reps
from vendor_node.spec import SPEC as VENDOR

COMPANIES = ("Globex", "Umbrella", "Hooli", "Wonka")


class StillClock:
    """One moment, and randomness from one seed."""

    def __init__(self, seed: str) -> None:
        self.random = Random(seed)

    def now_ms(self) -> int:
        return 1_789_999_000_000

    def random_bits(self, bits: int) -> int:
        return self.random.getrandbits(bits)


async def plant(directory: Path) -> None:
    partner, vendor = open_station(PARTNER, directory), open_station(VENDOR, directory)
    async with vendor.working() as work:
        for name in ("Victor", "Vera"):
            await add_person(work, name)
        for user_id in (1, 2):
            await reps.add_rep(work.tx, user_id, {"weight": user_id})
        bundle = await partnerships.invite(work, "Initech", "Acme", "memory")
    async with partner.working() as work:
        await add_person(work, "Paula")
        for name in COMPANIES:
            company = {"name": name, "domain": f"{name.lower()}.example", "country": "DE"}
            company_id = await customers.add_company(work.tx, company, work.now_ms)
            await customers.add_contact(
                work.tx, {"name": f"Head of {name}", "email": f"ceo@{name.lower()}.example", "company_id": company_id}, 1
            )
        await partnerships.join(work, bundle)
    for station in (partner, vendor):
        async with station.working() as work:
            await customers.add_pipeline(work.tx, "Sales", [("New", "open"), ("Won", "won")])
        await station.database.close()


async def add_person(work: Work, name: str) -> None:
    await users.add_user(work.tx, work.incarnation.new_uid(), name, f"{name.lower()}@{work.side}.example", "rep")


def open_station(spec: NodeSpec, directory: Path) -> Station:
    return Station(spec, Database(f"sqlite:///{directory}/{spec.side}.db"), StillClock(spec.side))
