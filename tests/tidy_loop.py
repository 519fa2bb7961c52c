"""The event loop of the tests: when it closes, it cuts off what Kafka's client still has open, as the end of a process does.

aiokafka lets go of connections without waiting for their end (its bootstrap does), and loses one whose start is cancelled. A connection
that anybody else leaves open is still an error."""

import asyncio
from typing import Any


class TidyLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self.of_kafka: list[asyncio.Transport] = []

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        transport, protocol = await super().create_connection(*args, **options)
        if type(protocol).__module__.startswith("aiokafka."):
            self.of_kafka.append(transport)
        return transport, protocol

    def close(self) -> None:
        if not self.is_closed():
            for transport in self.of_kafka:
                transport.abort()
            self.of_kafka.clear()
            self.run_until_complete(asyncio.sleep(0))
        super().close()
