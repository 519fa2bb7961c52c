"""Run inside the partner's container, with its credential: what it can do beyond its own two topics. Prints one outcome for each try."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from shared_schema.contract.topics import record_topic
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.joining import find_way
from shared_schema.sync.transport import AccessDenied, BrokerError, Record

BROKERS = Path("/secrets/partner/brokers")
OTHER = sys.argv[1]
(OWN,) = [file.stem for file in BROKERS.glob("*.json")]


async def outcome_of(attempt: Callable[[], Awaitable[Any]]) -> str:
    try:
        await attempt()
    except AccessDenied as error:
        return f"refused: {error}"
    except (BrokerError, TimeoutError) as error:
        return f"refused otherwise: {error!r}"
    return "done"


async def write(broker: KafkaBroker, topic: str) -> None:
    producer = await broker.open_producer()
    await (await producer.send(topic, [Record(None, b"{}", ())]))


async def read(broker: KafkaBroker, topic: str) -> None:
    reader = await broker.open_reader(topic, 0)
    for _ in range(10):
        if await reader.fetch(10, 500):
            return
    raise TimeoutError("nothing came")


async def see(broker: KafkaBroker, topic: str) -> None:
    if topic not in await broker.describe_topics([topic]):
        raise AccessDenied(f"{topic} is not shown")


async def main() -> None:
    way = find_way(BROKERS, OWN, "")
    assert way is not None
    broker = KafkaBroker(*way)
    await broker.start()
    own, peers = record_topic(OWN, "partner"), record_topic(OWN, "vendor")
    others = [record_topic(OTHER, side) for side in ("partner", "vendor")]
    tries: dict[str, Callable[[], Awaitable[Any]]] = {
        "own: see own topic": lambda: see(broker, own),
        "own: read the vendor's words to it": lambda: read(broker, peers),
        "write as the vendor": lambda: write(broker, peers),
        "create a topic": lambda: broker.create_topics([f"dealbridge.{OWN}.from-elsewhere"]),
        "see another's topic": lambda: see(broker, others[0]),
        "read what another said": lambda: read(broker, others[0]),
        "read what another was told": lambda: read(broker, others[1]),
        "write as another": lambda: write(broker, others[0]),
        "write to another as the vendor": lambda: write(broker, others[1]),
        "make users": lambda: broker.gate.admit("intruder", "x" * 20) if broker.gate else asyncio.sleep(0),
    }
    print(json.dumps({name: await outcome_of(attempt) for name, attempt in tries.items()}))
    await broker.stop()


asyncio.run(main())
