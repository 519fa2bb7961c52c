"""`make bench`: one table of figures, each the median of interleaved runs on both stores, and bench.json (figure → store → value)."""

import argparse
import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.kafka.embedded import EmbeddedKafka
from shared_schema.sync import event_loop
from tests.bench import figures, repairs
from tests.bench.stage import Stage, Store
from tests.postgres import EmbeddedPostgres

AIMS = {
    "lag_p50_ratio": "≤ 4", "lag_p99_ratio": "≤ 4", "catch_up_events_per_second": "≥ 15,000", "catch_up_ratio": "≥ 0.5",
    "memory_ratio": "≤ 1.2", "edits_per_second": "≥ 1,500", "cost_ratio_1m": "≤ 1.15", "verify_s_1m": "≤ 2", "verify_kb_1m": "≤ 200",
    "first_load_records_per_second": "≥ 8,000", "digest_cost_ratio": "≤ 1.05",
}  # fmt: skip
Measured = dict[str, dict[str, list[float]]]
ALL = ("lag", "edits", "catch_up", "cost", "verify", "repair", "first_load", "digests")
Keep = Callable[[Store, figures.Figures], None]


async def run(arguments: argparse.Namespace, stages: dict[Store, Stage], console: Console) -> Measured:
    found: Measured = defaultdict(lambda: defaultdict(list))

    def keep(store: Store, measured: figures.Figures) -> None:
        for name, value in measured.items():
            found[name][store].append(value)
            console.print(f"  {store:10} {name:28} {value:12,.2f}")

    for what, measure in (("lag", lag_of), ("edits", edits_of)):
        for _ in range(arguments.runs if what in arguments.only else 0):
            for store, stage in stages.items():
                keep(store, await measure(stage, arguments))
    if "catch_up" in arguments.only:
        await run_catch_up(arguments, stages, keep)
    if "cost" in arguments.only:
        await run_cost(arguments, stages, keep)
    for what, prepare, measured in (
        ("verify", lambda stage: repairs.prepare_alike(stage, arguments.records // 2), repairs.measure_digests),
        ("repair", lambda stage: repairs.prepare_alike(stage, arguments.records // 20), repairs.measure_repair),
        ("first_load", lambda stage: repairs.prepare_first_load(stage, arguments.records // 20), repairs.measure_first_load),
        ("digests", lambda stage: repairs.prepare_without_digests(stage, arguments.edits // 5), repairs.measure_digest_cost),
    ):
        if what in arguments.only:
            await run_prepared(arguments, stages, keep, prepare, measured)
    return found


async def run_prepared(arguments: argparse.Namespace, stages: dict[Store, Stage], keep: Keep, prepare: Any, measure: Any) -> None:
    prepared = {store: await prepare(stage) for store, stage in stages.items()}
    for _ in range(arguments.runs):
        for store, stage in stages.items():
            keep(store, await measure(stage, prepared[store]))


async def lag_of(stage: Stage, arguments: argparse.Namespace) -> figures.Figures:
    return await figures.measure_lag(stage, arguments.edits // 100)


async def edits_of(stage: Stage, _: argparse.Namespace) -> figures.Figures:
    return await figures.measure_edits(stage, 4)


async def run_catch_up(arguments: argparse.Namespace, stages: dict[Store, Stage], keep: Keep) -> None:
    """The whole backlog, and a tenth of it for the memory's sake."""
    deals = max(1, arguments.edits // 5)
    whole = {store: await figures.prepare_catch_up(stage, deals, arguments.edits) for store, stage in stages.items()}
    tenth = {store: await figures.prepare_catch_up(stage, deals, arguments.edits // 10) for store, stage in stages.items()}
    for _ in range(arguments.runs):
        for store, stage in stages.items():
            small = await figures.measure_catch_up(stage, tenth[store])
            large = await figures.measure_catch_up(stage, whole[store])
            keep(store, large | {"memory_ratio": large["peak_mib"] / small["peak_mib"]})


async def run_cost(arguments: argparse.Namespace, stages: dict[Store, Stage], keep: Keep) -> None:
    """The same number of events into stores of 10,000, 100,000 and 1,000,000 shared records (two for each deal)."""
    for store, stage in stages.items():
        sizes = (5_000, 50_000, arguments.records // 2)
        prepared = {size: await figures.prepare_catch_up(stage, size, arguments.edits // 5, each_once=True) for size in sizes}
        for _ in range(arguments.runs):
            costs = {size: await figures.measure_cost(stage, each) for size, each in prepared.items()}
            told = {f"cost_us_{2 * size}": cost for size, cost in costs.items()}
            keep(store, told | {"cost_ratio_1m": costs[sizes[-1]] / costs[sizes[0]]})


def tell(console: Console, medians: dict[str, dict[str, float]]) -> None:
    table = Table("figure", "PostgreSQL", "SQLite", "aim (PostgreSQL)", title="Dealbridge, medians")
    for name, values in medians.items():
        shown = [f"{values[store]:,.2f}" if store in values else "" for store in ("postgresql", "sqlite")]
        table.add_row(name, *shown, AIMS.get(name, ""))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--edits", type=int, default=100_000, help="the backlog of the catch-up; other sizes follow from it")
    parser.add_argument("--records", type=int, default=1_000_000, help="the largest store")
    parser.add_argument("--only", nargs="+", choices=ALL, default=ALL)
    parser.add_argument("--stores", nargs="+", choices=("postgresql", "sqlite"), default=("postgresql", "sqlite"))
    arguments = parser.parse_args()
    console = Console()
    with (
        EmbeddedPostgres(durable=True) as postgres,
        EmbeddedKafka() as kafka,
        tempfile.TemporaryDirectory(prefix="dealbridge-bench-") as place,
    ):
        stages: dict[Store, Stage] = {store: Stage(store, kafka.address, Path(place), postgres) for store in arguments.stores}
        found = event_loop.run(run(arguments, stages, console))
    medians = {name: {store: statistics.median(values) for store, values in by.items()} for name, by in found.items()}
    tell(console, medians)
    Path("bench.json").write_text(json.dumps(medians, indent=2) + "\n")


if __name__ == "__main__":
    main()
