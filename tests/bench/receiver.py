"""The receiving side of the lag's measure: a process that syncs, and writes down when each edit was committed there.

`python -m tests.bench.receiver SIDE STORE KAFKA FILE`; the clock is the machine's monotonic one, the same in every process.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from shared_schema.contract.codec import Event
from shared_schema.contract.registers import Side
from shared_schema.crm.database import Database
from shared_schema.sync import event_loop, metrics
from shared_schema.sync.arrivals import Numbered
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.node import Node
from shared_schema.sync.station import Station
from tests.bench.population import SPECS


def texts_of(event: Event) -> list[str]:
    """The next steps that an event carries."""
    registers = [change.fields.get("next_step") for change in event.data.records]
    return [sibling.value for register in registers if register for sibling in register.siblings]


def write_down(notes: TextIO) -> None:
    """From now on, a line per edit right after its commit."""
    real = metrics.note_applied

    def note(desk: object, taken: Sequence[Numbered], *more: object) -> None:
        now_s = time.perf_counter()
        for each in taken:
            notes.writelines(f"{now_s} {text}\n" for text in texts_of(each.event))
        notes.flush()
        real(desk, taken, *more)  # type: ignore[arg-type]  # handed through

    metrics.note_applied = note


async def receive(side: Side, url: str, kafka: str, notes: Path) -> None:
    with notes.open("a") as lines:
        write_down(lines)
        await Node(Station(SPECS[side], Database(url), SystemClock()), KafkaBroker(kafka)).run()


if __name__ == "__main__":
    event_loop.run(receive("partner" if sys.argv[1] == "partner" else "vendor", sys.argv[2], sys.argv[3], Path(sys.argv[4])))
