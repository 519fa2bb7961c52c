"""What an acknowledgement says of an epoch: how far everything has arrived, what is missing, and the event that brought it there."""

import pytest

from shared_schema.contract.codec import RecordChange
from shared_schema.contract.envelope import Heartbeat, Void
from shared_schema.contract.registers import Stamp
from shared_schema.sync.arrivals import Arrivals, Numbered
from shared_schema.sync.progress import UNRECORDED, Reach, acknowledge
from shared_schema.sync.transport import Received
from tests.hand_made import make_event

EPOCH = "5bda5bb4d850d1f9"
EVENTS = [f"01a0c451-600b-7165-819f-2d965ba0421{number}" for number in range(4)]
P = "initech-acme"


def arrived(*numbers: int) -> Reach:
    reach = Reach(P)
    for number in numbers:
        reach.arrive(EPOCH, number, EVENTS[number])
    return reach


def said(reach: Reach) -> tuple[int, list[tuple[int, int]], str | None]:
    told = acknowledge(reach)[EPOCH]
    return told.watermark, list(told.gaps), told.event


def test_a_tail_that_is_lost_takes_nothing_from_the_event_before_it() -> None:
    reach = arrived(1)
    reach.hear(Heartbeat(partnership=P, sent_ms=1, epochs={EPOCH: 2}))
    assert said(reach) == (1, [(2, 2)], EVENTS[1])


def test_what_is_beyond_a_gap_is_not_called_the_event_there() -> None:
    reach = arrived(1, 3)
    assert said(reach) == (1, [(2, 2)], EVENTS[1])


@pytest.mark.parametrize("voided", [True, False])
def test_where_the_last_gap_is_filled_the_event_there_is_the_last_one_and_no_earlier_one(voided: bool) -> None:
    reach = arrived(1, 3)
    if voided:
        reach.hear(Void(partnership=P, sent_ms=1, epochs={EPOCH: [(2, 2)]}))
    else:
        reach.arrive(EPOCH, 2, EVENTS[2])
    assert said(reach) == (3, [], EVENTS[3])


@pytest.mark.parametrize(("type_", "named"), [("note.added", EVENTS[2]), *((each, None) for each in UNRECORDED)])
def test_what_its_sender_keeps_no_history_of_is_not_named_late(type_: str, named: str | None) -> None:
    reach, change = Reach(P), RecordChange(EVENTS[0], "note", EVENTS[0], EVENTS[0], "vendor", {})
    for number in (2, 1):
        event = make_event(EVENTS[number], type_, (P, "vendor"), change, Stamp(1, 0))
        received = Received("topic", number, 0, None, None, ())
        reach.count(Arrivals([Numbered(received, event, EPOCH, number)], [], []))
    assert said(reach) == (2, [], named)


def test_between_two_gaps_the_event_there_is_not_known() -> None:
    reach = arrived(2)
    reach.hear(Heartbeat(partnership=P, sent_ms=1, epochs={EPOCH: 3}))
    reach.arrive(EPOCH, 1, EVENTS[1])
    assert said(reach) == (2, [(3, 3)], None)
    reach.arrive(EPOCH, 3, EVENTS[3])
    assert said(reach) == (3, [], EVENTS[3])


def test_where_no_row_bears_the_last_number_there_is_no_event() -> None:
    reach = arrived(1)
    reach.hear(Heartbeat(partnership=P, sent_ms=1, epochs={EPOCH: 2}))
    reach.hear(Void(partnership=P, sent_ms=1, epochs={EPOCH: [(2, 2)]}))
    assert said(reach) == (2, [], None)


def test_what_comes_twice_changes_nothing() -> None:
    reach = arrived(1, 2, 1)
    assert said(reach) == (2, [], EVENTS[2])
