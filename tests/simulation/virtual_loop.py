"""An event loop whose clock jumps to the next timer: hours pass in milliseconds, and two runs are the same run."""

import asyncio
import heapq


class Deadlock(RuntimeError):
    """Nothing is ready and nothing is scheduled: whoever waits would wait for ever."""


class Endless(RuntimeError):
    """A history takes more turns than any that ends."""


TURNS_MAX = 400_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """No threads, no sockets, no real time."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.turns = 0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns > TURNS_MAX:
            self.turns = 0  # so that what is to be cleaned up has its turns
            raise Endless(f"more than {TURNS_MAX:,} turns until {self.now_s:,.0f} s")
        if not self._ready:
            while self._scheduled and self._scheduled[0]._cancelled:
                timer = heapq.heappop(self._scheduled)
                timer._scheduled = False
                self._timer_cancelled_count -= 1
            if not self._scheduled:
                raise Deadlock("nothing will ever happen again")
            self.now_s = max(self.now_s, self._scheduled[0]._when)
        super()._run_once()
