"""What there is to compare with: the same rows written without us, and the broker alone."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import asyncpg

from shared_schema.contract.codec import Event
from shared_schema.contract.registers import encode_value
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.transport import Record
from tests.bench.population import PARTNERSHIP

BATCH = 1_000
HISTORY = (
    "partnership", "uid", "field", "incarnation", "counter", "physical", "logical", "actor", "value", "source", "event", "at_ms",
)  # fmt: skip
TYPES = ("text", "text", "text", "text", "bigint", "bigint", "bigint", "text", "text", "text", "text", "bigint")
Rows = list[tuple[Any, ...]]


def make_rows(events: Sequence[Event]) -> tuple[Rows, Rows]:
    """Per event its history row, and per record its newest document."""
    history, documents = [], {}
    for event in events:
        (change,) = event.data.records
        ((field, register),) = change.fields.items()
        (sibling,) = register.siblings
        place = (PARTNERSHIP, change.uid, field, *sibling.dot, *sibling.stamp, None, encode_value(sibling.value).decode())
        history.append((*place, "peer", event.id, 0))
        documents[change.uid] = (encode_value({field: register}).decode() * 3, 1, change.uid)
    return history, list(documents.values())


async def write_bare(url: str, events: Sequence[Event]) -> float:
    """Events per second when only the rows are written, a thousand a transaction."""
    batches = [make_rows(events[start : start + BATCH]) for start in range(0, len(events), BATCH)]
    began_s = time.perf_counter()
    if url.startswith("sqlite"):
        write_sqlite(url.removeprefix("sqlite:///"), batches)
    else:
        await write_postgresql(url, batches)
    return len(events) / (time.perf_counter() - began_s)


def write_sqlite(path: str, batches: Sequence[tuple[Rows, Rows]]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        for history, documents in batches:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                f"INSERT INTO property_history ({', '.join(HISTORY)}) VALUES ({', '.join('?' * 12)}) ON CONFLICT DO NOTHING", history
            )
            connection.executemany(
                f"UPDATE shared_records SET document = ?, hash = ? WHERE partnership = '{PARTNERSHIP}' AND uid = ?", documents
            )
            connection.execute("COMMIT")


async def write_postgresql(url: str, batches: Sequence[tuple[Rows, Rows]]) -> None:
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(TYPES, 1))
    insert = f"INSERT INTO property_history ({', '.join(HISTORY)}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"
    update = (
        "UPDATE shared_records SET document = new.document, hash = new.hash FROM unnest($1::text[], $2::bigint[], $3::text[]) "
        f"AS new(document, hash, uid) WHERE shared_records.partnership = '{PARTNERSHIP}' AND shared_records.uid = new.uid"
    )
    connection = await asyncpg.connect(url)
    try:
        for history, documents in batches:
            async with connection.transaction():
                await connection.execute(insert, *(list(column) for column in zip(*history, strict=True)))
                await connection.execute(update, *(list(column) for column in zip(*documents, strict=True)))
    finally:
        await connection.close()


async def measure_broker(address: str, topic: str, edits: int, pause_s: float) -> list[float]:
    """Produce to consume, in ms, at the same pace and through the same clients."""
    broker, lags = KafkaBroker(address), []
    await broker.start()
    try:
        await broker.create_topics([topic])
        end = (await broker.describe_topics([topic]))[topic].end_offset
        reader, producer = await broker.open_reader(topic, end), await broker.open_producer()

        async def receive() -> None:
            while len(lags) < edits:
                for each in await reader.fetch(100, 500):
                    lags.append((time.perf_counter_ns() - int(each.value.split()[0])) / 1e6)

        receiving = asyncio.create_task(receive())
        for _ in range(edits):
            await producer.send(topic, [Record(None, b"%d %s" % (time.perf_counter_ns(), b"x" * 700), ())])
            await asyncio.sleep(pause_s)
        await receiving
    finally:
        await broker.stop()
    return lags
