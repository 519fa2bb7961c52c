"""An event loop whose clock jumps to the next timer: hours pass in milliseconds, and two runs are the same run."""

import asyncio
import heapq


class Deadlock(RuntimeError):
    """Nothing is ready and nothing is scheduled: whoever waits would wait for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """No threads, no sockets, no real time."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready:
            while self._scheduled and self._scheduled[0]._cancelled:
                timer = heapq.heappop(self._scheduled)
                timer._scheduled = False
                self._timer_cancelled_count -= 1
            if not self._scheduled:
                raise Deadlock("nothing will ever happen again")
            self.now_s = max(self.now_s, self._scheduled[0]._when)
        super()._run_once()
