"""What a deal weighs in a store: `python -m tests.bench.weight`. Deals are registered and worked on as people would: each gets edits, notes
and a comment of both sides, a product and a quote. Then both stores are at rest, and packed."""

import argparse
import asyncio
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from shared_schema.crm.database import Database
from shared_schema.crm.driver import run
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.sync.deals import save_shared
from shared_schema.sync.notes import add_comment, add_note
from shared_schema.sync.offers import put_product, put_quote
from tests.integration.pair import Pair, open_pair
from tests.postgres import EmbeddedPostgres
from tests.stores import SQLITE, file_of
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

EDITS, NOTES = 6, 3
LETTER = "They would like the offer in writing, with the rollout in two steps, and ask who will train their people in the first week. "


async def work_on_newest(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    newest = select(func.max(shared_deals.c.id))
    deals = {side: (await side.rows(newest))[0][0] for side in (partner, vendor)}
    for number in range(EDITS):
        side = (partner, vendor)[number % 2]
        values = {"next_step": f"Step {number} of the plan", "amount": {"amount": f"{number}000", "currency": "EUR"}}
        await side.do(save_shared, deals[side], values)
        await pair.settle()  # what was not seen would be a conflict
    for number in range(NOTES):
        note = await partner.do(add_note, deals[partner], f"{number}: {LETTER * 2}")
        await partner.do(add_comment, note, LETTER)
        await vendor.do(add_note, deals[vendor], f"{number}: {LETTER}")
    await partner.do(put_product, deals[partner], "SEATS", "Seats of the CRM", "25")
    await vendor.do(put_quote, deals[vendor], {"number": f"Q-{deals[vendor]}", "title": "Rollout", "status": "sent"})


async def weigh(postgres: EmbeddedPostgres | None, directory: Path, deals: int) -> dict[str, float]:
    """Bytes per deal and side, beyond what a store with one deal has."""
    urls = [postgres.fresh_database() if postgres else f"{SQLITE}{directory}/{side}.db" for side in ("partner", "vendor")]
    cluster = MemoryCluster()
    async with open_pair((urls[0], urls[1]), (MemoryBroker(cluster), MemoryBroker(cluster))) as pair:
        await pair.begin_sharing()
        await pair.settle()
        before = [await measure(url, postgres) for url in urls]
        for number in range(deals):
            await pair.share_deal(f"Company{number}")
            await pair.settle()
            await work_on_newest(pair)
        await pair.settle()
    after = [await measure(url, postgres) for url in urls]
    return {side: (new - old) / deals for side, new, old in zip(("partner", "vendor"), after, before, strict=True)}


async def measure(url: str, postgres: EmbeddedPostgres | None) -> int:
    if postgres is None:
        with closing(sqlite3.connect(file_of(url))) as connection:
            copy = file_of(url).with_suffix(".packed")
            connection.execute("VACUUM INTO ?", (str(copy),))
            size = copy.stat().st_size
            copy.unlink()
            return size
    database = Database(url)
    async with database.glancing() as connection:
        await run(connection, "VACUUM FULL")
        (row,) = await run(connection, "SELECT pg_database_size(current_database())")
    await database.close()
    return int(row[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.weight", description=__doc__)
    parser.add_argument("--deals", type=int, default=200)
    arguments = parser.parse_args()
    with EmbeddedPostgres() as postgres, tempfile.TemporaryDirectory(prefix="dealbridge-bench-") as place:
        for store, server in (("sqlite", None), ("postgresql", postgres)):
            weights: dict[str, Any] = asyncio.run(weigh(server, Path(place), arguments.deals))
            for side, weight in weights.items():
                print(f"{store:10}  {side:7}  {weight / 1_000:8.1f} kB for a deal")


if __name__ == "__main__":
    main()
