"""The bell: after a commit it wakes at once whoever waits for work of that name. A poll behind it catches what it can not hear."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable


class Bell:
    """Names are partnership ids, `reactions`, `restorations`, `verifications` and `partnerships`. `on_ring` hears every ringing, for other
    processes' sake."""

    def __init__(self) -> None:
        self.listeners: defaultdict[str, list[asyncio.Event]] = defaultdict(list)
        self.on_ring: list[Callable[[frozenset[str]], None]] = []

    def listen(self, name: str) -> asyncio.Event:
        event = asyncio.Event()
        self.listeners[name].append(event)
        return event

    def forget(self, name: str, event: asyncio.Event) -> None:
        self.listeners[name].remove(event)

    def ring(self, names: Iterable[str]) -> None:
        """Wake this process, and tell whoever carries it to the others."""
        rung = frozenset(names)
        if not rung:
            return
        self.wake(rung)
        for tell in self.on_ring:
            tell(rung)

    def wake(self, names: Iterable[str]) -> None:
        """Wake this process alone; in an order that does not change from one process to the next."""
        for name in sorted(names):
            for event in self.listeners[name]:
                event.set()


async def wait(event: asyncio.Event, poll_s: float) -> None:
    """Until the bell rings, or the poll behind it. The event is left cleared."""
    try:
        async with asyncio.timeout(poll_s):
            await event.wait()
    except TimeoutError:
        return
    finally:
        event.clear()
