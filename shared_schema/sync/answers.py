"""What became of the peer's events where that is not simply applied: ordinary events, which are never answered themselves; and what the
peer says of ours."""

from collections.abc import Iterable
from typing import NamedTuple

from shared_schema.contract.codec import Event, EventData, Outcome, format_time
from shared_schema.sync.incarnation import Incarnation

OUTCOME = "outcome.reported"
OUTCOMES_MAX = 1_000  # to an answer, so that one large forgery is not answered by an event too large to send


class Answer(NamedTuple):
    """The outcomes of one event, by its id; subject and registration are the event's own, where they could be read."""

    event: str
    outcomes: tuple[Outcome, ...]
    subject: str
    registration: str | None = None


def answer(event: Event, *outcomes: Outcome) -> Answer:
    return Answer(event.id, outcomes, event.subject, event.registration)


def make_answers(incarnation: Incarnation, partnership: str, answers: Iterable[Answer]) -> list[Event]:
    """The events that tell the peer, for the outbox; at most a thousand outcomes each."""
    return [
        Event(
            id=incarnation.new_uid(),
            source=f"/{partnership}/{incarnation.side}",
            type=OUTCOME,
            subject=each.subject,
            time=format_time(incarnation.clock.now_ms()),
            partnership=partnership,
            registration=each.registration,
            stamp=incarnation.next_stamp(),
            causation=each.event,
            data=EventData(outcomes=some),
        )
        for each in answers
        for some in in_groups(each.outcomes)
    ]


def in_groups(outcomes: tuple[Outcome, ...]) -> list[tuple[Outcome, ...]]:
    return [outcomes[start : start + OUTCOMES_MAX] for start in range(0, len(outcomes), OUTCOMES_MAX)]
