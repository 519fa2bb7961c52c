"""The change recipe of the README, tried: a new shared field is a contract line, a column and a migration, and nothing else; also where a
peer had said something in it before."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared_schema", "partner_node", "vendor_node", "tests", "deploy")
CONTRACT_LINE = (
    '            "next_step": Field(line),\n',
    '            "next_step": Field(line),\n            "competitor": Field(line),\n',
)
COLUMN = (
    '    Column("next_step", String(500)),\n    Column("owner_id"',
    '    Column("next_step", String(500)),\n    Column("competitor", String(500)),\n    Column("owner_id"',
)
MIGRATION = '''"""Deals name a competitor."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None


def upgrade() -> None:
    op.add_column("deals", sa.Column("competitor", sa.String(500)))
'''
STORY = """
import asyncio, sys
from shared_schema.crm.deals import load_deal
from shared_schema.crm.migrations import migrate
from shared_schema.sync import views
from shared_schema.sync.deals import save_deal
from tests.integration.pair import open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

async def main():
    cluster = MemoryCluster()
    urls = tuple(f"sqlite:///{sys.argv[1]}/{side}.db" for side in ("partner", "vendor"))
    async with open_pair(urls, (MemoryBroker(cluster), MemoryBroker(cluster))) as pair:
        await pair.become_partners()
        pair.partner.start()
        pair.vendor.start()
        await pair.share_deal(competitor="Hooli")
        async def arrived():
            return bool(await pair.partner.read(views.list_shared_deals, {"status": "active"}))
        await until(arrived)
        await pair.settle()
        print((await pair.vendor.read(load_deal, 1))["competitor"])
        await pair.vendor.do(save_deal, 1, {"competitor": "Umbrella"})
        await pair.settle()
        print((await pair.partner.read(load_deal, 1))["competitor"])
        shown = await pair.partner.read(views.read_shared_deal, "partner", 1)
        print(shown["deal"]["fields"]["competitor"]["sync"])
        await pair.check_same()

asyncio.run(main())
"""
# The partner runs the next version: what it writes is let pass, as that one would.
BEFORE = """
import asyncio, sys
from shared_schema.crm.database import Database
from shared_schema.crm.migrations import migrate
from shared_schema.crm.tables import shared_records
from shared_schema.sync import capture
from shared_schema.sync.capture import Write
from sqlalchemy import select
from tests.integration.pair import VENDOR, open_pair
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

async def main():
    cluster, urls = MemoryCluster(), sys.argv[2:]
    database = Database(urls[1])
    await migrate(database, VENDOR.migrations)
    await database.close()
    async with open_pair(urls, (MemoryBroker(cluster), MemoryBroker(cluster))) as pair:
        await pair.begin_sharing()
        (deal,) = await pair.partner.rows(select(shared_records).where(shared_records.c.kind == "deal"))
        capture.may_write, capture.canonical_value = lambda *_: True, lambda kind, field, value: value
        async with pair.partner.station.working(pair.partner.author) as work:
            await work.capture(pair.partnership, deal.registration, "deal.changed", [Write(deal.uid, "competitor", "Hooli")])
        await pair.settle()

asyncio.run(main())
"""
AFTER = """
import asyncio, sys
from shared_schema.crm.deals import load_deal
from shared_schema.crm.migrations import migrate
from shared_schema.crm.tables import partnerships as partnership_rows
from shared_schema.sync import partnerships
from sqlalchemy import select
from tests.integration.pair import VENDOR, Side, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

async def main():
    vendor = Side(VENDOR, sys.argv[3], MemoryBroker(MemoryCluster()))
    print(await migrate(vendor.station.database, VENDOR.migrations))
    (row,) = await vendor.rows(select(partnership_rows.c.id))
    await partnerships.create_topics(vendor.broker, row.id)
    print((await vendor.read(load_deal, 1))["competitor"])
    vendor.start()
    async def shown():
        return (await vendor.read(load_deal, 1))["competitor"]
    await until(shown)
    print(await shown())
    await vendor.close()

asyncio.run(main())
"""
MIGRATE = """
import asyncio, importlib, sys
from shared_schema.crm.database import Database
from shared_schema.crm.migrations import migrate
from sqlalchemy import inspect

async def main():
    for side in ("partner", "vendor"):
        database = Database(f"sqlite:///{sys.argv[1]}/migrated-{side}.db")
        print(await migrate(database, importlib.import_module(f"{side}_node.spec").SPEC.migrations))
        async with database.reading() as connection:
            columns = await connection.run_sync(lambda sync: inspect(sync).get_columns("deals"))
        print("competitor" in {each["name"] for each in columns})
        await database.close()

asyncio.run(main())
"""


def test_a_made_up_shared_field_needs_a_line_a_column_and_a_migration(tmp_path: Path) -> None:
    follow_recipe(tmp_path)
    assert run(tmp_path, STORY) == ["Hooli", "Umbrella", "applied"]
    assert run(tmp_path, MIGRATE) == ["0002", "True"] * 2


def test_what_a_newer_peer_had_said_in_it_shows_after_the_migration(tmp_path: Path, database_url: str) -> None:
    urls = f"sqlite:///{tmp_path}/partner.db", database_url
    run(ROOT, BEFORE, *urls)
    follow_recipe(tmp_path)
    assert run(tmp_path, AFTER, *urls) == ["0002", "None", "Hooli"]


def follow_recipe(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    change(tmp_path / "shared_schema/contract/records.py", *CONTRACT_LINE)
    change(tmp_path / "shared_schema/crm/tables.py", *COLUMN)
    for side in ("partner", "vendor"):
        (tmp_path / f"{side}_node/migrations/versions/r0002_competitor.py").write_text(MIGRATION)


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"the recipe's place in {path.name} has moved"
    path.write_text(text.replace(before, after))


def run(copy: Path, program: str, *arguments: str) -> list[str]:
    """What a program prints that sees only the changed copy."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(copy)!r})\n{program}", str(copy), *arguments]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]
