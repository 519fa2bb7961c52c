"""Looks at topics, gathered: two hundred readers that have heard nothing for a while ask the broker once, and not each for itself."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from shared_schema.sync.transport import AccessDenied, TopicInfo

GATHER_S = 0.5

Found = dict[str, TopicInfo]
Describe = Callable[[Sequence[str]], Awaitable[Found]]


class Looks:
    """Asks `describe` at once for the topics of all who come within half a second."""

    def __init__(self, describe: Describe) -> None:
        self.describe = describe
        self.topics: set[str] = set()
        self.next: asyncio.Task[Found] | None = None
        self.asking: set[asyncio.Task[Found]] = set()

    async def look(self, topic: str) -> TopicInfo | None:
        """The topic, if it exists; raises what `describe` does. Where one of the topics may not be seen, each is asked for by itself."""
        self.topics.add(topic)
        if self.next is None:
            self.next = asyncio.create_task(self.ask())
            self.asking.add(self.next)
            self.next.add_done_callback(self.forget)
        try:
            return (await asyncio.shield(self.next)).get(topic)
        except AccessDenied:
            return (await self.describe([topic])).get(topic)

    async def ask(self) -> Found:
        await asyncio.sleep(GATHER_S)
        topics, self.topics, self.next = sorted(self.topics), set(), None
        return await self.describe(topics)

    def forget(self, asked: asyncio.Task[Found]) -> None:
        self.asking.discard(asked)
        if not asked.cancelled():
            asked.exception()  # whoever waited for it was told; if all are gone, nothing is to be logged

    async def stop(self) -> None:
        """Cut off what is still asked."""
        for each in self.asking:
            each.cancel()
        await asyncio.gather(*self.asking, return_exceptions=True)
        self.next = None
