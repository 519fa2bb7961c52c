"""A clock of a side's processes that is moved while they run: `python -m tests.chaos.clocks FILE SIDE run …` is a node whose one clock is
as far from the machine's as FILE says. (libfaketime would do it for any program, but makes two threads of Python spin for each other.)"""

import importlib
import sys
from pathlib import Path
from unittest.mock import patch

from shared_schema.sync.clock import SystemClock

HOUR_S = 3_600


class MovedClock:
    """What the processes that are told this file take for the time of day; how they measure spans is left alone."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def move(self, seconds: int) -> None:
        """So far from the machine's time, from now on; the file is never seen half written."""
        fresh = self.file.with_suffix(".fresh")
        fresh.write_text(str(seconds * 1_000))
        fresh.rename(self.file)

    def read_ms(self) -> int:
        return int(self.file.read_text())


def main() -> None:
    file, side, *arguments = sys.argv[1:]
    sys.argv = [f"{side}-node", *arguments]
    clock, real = MovedClock(Path(file)), SystemClock.now_ms
    with patch.object(SystemClock, "now_ms", lambda self: real(self) + clock.read_ms()):
        importlib.import_module(f"{side}_node.cli").main()


if __name__ == "__main__":
    main()
