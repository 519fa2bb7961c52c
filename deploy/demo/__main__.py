"""`make demo`: broker, both nodes, sample data, a story, the lag; stays up until Ctrl-C, or with --once ends by itself."""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from deploy.demo import lag, sample
from deploy.demo.processes import NodeFailed, NodeProcess, running_node
from deploy.demo.story import Story, StoryFailed
from deploy.kafka.embedded import KafkaUnavailable, running_kafka
from partner_node.spec import SPEC as PARTNER
from shared_schema.crm.database import Database
from shared_schema.crm.migrations import migrate
from shared_schema.sync import partnerships
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.station import NodeSpec, Station
from vendor_node.spec import SPEC as VENDOR


async def prepare(directory: Path, kafka: str) -> tuple[sample.Planted, sample.Planted]:
    """Both stores migrated and filled, and the partnership made."""
    partner, vendor = await open_store(PARTNER, directory), await open_store(VENDOR, directory)
    planted = await sample.plant_partner(partner), await sample.plant_vendor(vendor)
    async with vendor.working() as work:
        bundle = await partnerships.invite(work, sample.VENDOR, sample.PARTNER, kafka)
    broker = KafkaBroker(kafka)
    await broker.start()
    await partnerships.create_topics(broker, bundle["partnership"])
    await broker.stop()
    async with partner.working() as work:
        await partnerships.join(work, bundle)
    for station in (partner, vendor):
        await station.database.close()
    return planted


async def open_store(spec: NodeSpec, directory: Path) -> Station:
    database = Database(database_of(spec.side, directory))
    await migrate(database, spec.migrations)
    return Station(spec, database, SystemClock())


def database_of(side: str, directory: Path) -> str:
    return f"sqlite:///{directory}/{side}.db"


def run(console: Console, *, once: bool) -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dealbridge-demo-")))
        with console.status("Starting Apache Kafka (the first time its jars are fetched)…"):
            kafka = stack.enter_context(running_kafka())
        with console.status("Filling two CRMs with sample data…"):
            here, there = asyncio.run(prepare(directory, kafka))
        with console.status("Starting both nodes…"):
            nodes = [
                stack.enter_context(running_node(side, database_of(side, directory), kafka, directory)) for side in ("partner", "vendor")
            ]
        partner = stack.enter_context(nodes[0].client(here.tokens["Paula"]))
        vendor = stack.enter_context(nodes[1].client(there.tokens["Victor"]))
        story = Story(console, partner, vendor)
        story.tell()
        tell_lag(console, story, kafka)
        tell_addresses(console, nodes, [here.tokens["Paula"], there.tokens["Victor"]], kafka)
        if not once:
            wait_for_interrupt(console)


def tell_lag(console: Console, story: Story, kafka: str) -> None:
    story.chapter("The lag")
    here, there = list(story.pairs.items())[2]
    with console.status("Measuring…"):
        ours = lag.edit_and_measure(story.partner, story.vendor, here, there)
        bare = asyncio.run(lag.measure_broker(kafka))
    for name, values in (("from store to store", ours), ("bare broker, produce to consume", bare)):
        console.print(
            f"  {name:32} p50 {lag.quantile(values, 0.5):6.1f} ms   p99 {lag.quantile(values, 0.99):6.1f} ms   ({len(values)} edits)"
        )


def tell_addresses(console: Console, nodes: list[NodeProcess], tokens: list[str], kafka: str) -> None:
    console.print()
    console.rule("[bold]Addresses", align="left")
    for node, token in zip(nodes, tokens, strict=True):
        console.print(f"  {node.side:8} {node.address}/docs   metrics {node.address}/metrics", highlight=False)
        console.print(f"           token {token}", highlight=False)
    console.print(f"  Kafka    {kafka}", highlight=False)


def wait_for_interrupt(console: Console) -> None:
    console.print("\n  Everything runs. Ctrl-C ends it and leaves nothing behind.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("\n  Stopping…")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the story")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(Console(), once=arguments.once)
    except (KafkaUnavailable, NodeFailed, StoryFailed) as error:
        sys.exit(f"dealbridge demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
