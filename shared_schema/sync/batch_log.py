"""What the log says of a batch of the peer's events: one line for whatever did not simply apply, and at level debug one for each event."""

import logging
from collections.abc import Sequence

from shared_schema.sync.apply import Desk
from shared_schema.sync.arrivals import Numbered
from shared_schema.sync.log_lines import ids

TOLD_MAX = 20  # of a batch: a flood is one line more, and not a page
SERIOUS = ("parked", "refused")

log = logging.getLogger(__name__)


def tell_applied(desk: Desk, taken: Sequence[Numbered]) -> None:
    """One batch, after its commit."""
    if log.isEnabledFor(logging.DEBUG):
        for each in taken:
            number = {"epoch": each.epoch, "sequence": each.sequence, "offset": each.received.offset}
            log.debug("took %s", each.event.type, extra=ids(desk.partnership, each.event.registration, each.event.id, **number))
    told = [(answer, outcome) for answer in desk.answers for outcome in answer.outcomes]
    for answer, outcome in told[:TOLD_MAX]:
        level = logging.WARNING if outcome.outcome in SERIOUS else logging.INFO
        about = ids(desk.partnership, answer.registration, answer.event, uid=outcome.uid, field=outcome.field)
        log.log(level, "%s: %s", outcome.outcome, outcome.reason, extra=about)
    if len(told) > TOLD_MAX:
        log.warning("%d more outcomes like these in one batch; the store has them all", len(told) - TOLD_MAX, extra=ids(desk.partnership))
