"""Keeps the loggers of aiokafka and faust to one line in ten seconds each: their retries log up to thousands a second."""

import logging
from collections.abc import Iterable

LOG_EVERY_S = 10.0
NOISY_LOGGERS = (
    "aiokafka",
    "aiokafka.client",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.producer",
    "aiokafka.producer.sender",
)
FAUST_LOGGERS = (
    "faust.app.base",
    "faust.transport.consumer",
    "faust.transport.conductor",
    "faust.transport.drivers.aiokafka",
    "mode.services",
)


class OneLinePer(logging.Filter):
    """Lets one line per so many seconds through: aiokafka's retries log up to thousands a second."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.next_at = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created < self.next_at <= record.created + self.seconds:  # a clock set back opens it again
            return False
        self.next_at = record.created + self.seconds
        return True


def quieten_loggers(names: Iterable[str] = NOISY_LOGGERS) -> None:
    for name in names:
        logger = logging.getLogger(name)
        if not any(isinstance(each, OneLinePer) for each in logger.filters):
            logger.addFilter(OneLinePer(LOG_EVERY_S))
