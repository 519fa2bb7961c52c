"""An event loop whose clock jumps to the next timer: hours pass in milliseconds, and two runs are the same run."""

import asyncio
import heapq
from collections.abc import Coroutine
from itertools import count
from typing import Any


class Deadlock(RuntimeError):
    """Nothing is ready and nothing is scheduled: whoever waits would wait for ever."""


class Endless(RuntimeError):
    """A history takes more turns than any that ends."""


TURNS_MAX = 400_000
CANCELLED_MAX = 32  # timers that nobody waits for any more: most deadlines are never reached


class NumberedTask(asyncio.Task[Any]):
    """A group cancels its tasks in the order of a set: here that of their beginnings, and not of where they lie in memory."""

    def __init__(self, number: int, work: Coroutine[Any, Any, Any], **named: Any) -> None:
        self.number = number
        super().__init__(work, **named)

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.SelectorEventLoop):
    """No threads, no sockets, no real time: a turn asks no selector, for there is nothing outside that could call."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.turns = 0
        numbers = count()
        self.set_task_factory(lambda loop, work, **named: NumberedTask(next(numbers), work, loop=loop, **named))

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        """One turn, as asyncio's own: what is ready now, and not what becomes ready by it."""
        self.turns += 1
        if self.turns > TURNS_MAX:
            self.turns = 0  # so that what is to be cleaned up has its turns
            raise Endless(f"more than {TURNS_MAX:,} turns until {self.now_s:,.0f} s")
        ready = self._ready
        if not ready or self._scheduled:
            self.take_due()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def take_due(self) -> None:
        """What is due is ready; with nothing ready, time jumps to the next timer."""
        if self._timer_cancelled_count > CANCELLED_MAX:
            self.drop_cancelled()
        scheduled = self._scheduled
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self.now_s or not self._ready):
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count -= 1
            else:
                self.now_s = max(self.now_s, timer._when)
                self._ready.append(timer)
        if not self._ready:
            raise Deadlock("nothing will ever happen again")

    def drop_cancelled(self) -> None:
        for timer in self._scheduled:
            timer._scheduled = not timer._cancelled
        self._scheduled = [timer for timer in self._scheduled if timer._scheduled]
        heapq.heapify(self._scheduled)
        self._timer_cancelled_count = 0
