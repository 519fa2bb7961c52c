"""Says that the context of a field has grown long: whoever writes it under ever new incarnations can not do so for ever."""

import logging
from collections.abc import Iterable

from shared_schema.contract.registers import CONTEXT_MAX
from shared_schema.crm.shared_records import LongContext
from shared_schema.sync import metrics
from shared_schema.sync.log_lines import ids

log = logging.getLogger(__name__)


def tell_long(partnership: str, found: Iterable[LongContext]) -> None:
    """After the commit: the metric, and a line for each field that became so with it."""
    for each in found:
        metrics.note_context(partnership, each.entries)
        if each.fresh:
            about = ids(partnership, uid=each.uid, field=each.field)
            log.warning("%d incarnations wrote one field, of at most %d of both sides", each.entries, CONTEXT_MAX, extra=about)
