"""What is wrong between this process and the broker, as its own calls find out: said once in the log, kept for the status."""

import logging

from shared_schema.sync.transport import BrokerError, Trouble

EVERYTHING = ""
log = logging.getLogger(__name__)


class Health:
    """Troubles by topic and by what was tried there; a success takes that trouble away again."""

    def __init__(self) -> None:
        self.troubles: dict[tuple[str, str], Trouble] = {}

    def note(self, error: BrokerError, topic: str = EVERYTHING, trying: str = "") -> None:
        self.tell(Trouble(topic, error.kind, str(error)), trying)

    def tell(self, trouble: Trouble, trying: str = "") -> None:
        known = self.troubles.get((trouble.topic, trying))
        self.troubles[trouble.topic, trying] = trouble
        if known is None or known.kind != trouble.kind:
            log.error("%s", trouble.why)

    def clear(self, topic: str = EVERYTHING, trying: str = "") -> None:
        if self.troubles.pop((topic, trying), None):
            log.info("%s: well again", topic or "the broker")

    def list_troubles(self) -> list[Trouble]:
        return [self.troubles[each] for each in sorted(self.troubles)]
