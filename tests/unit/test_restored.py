"""When a store went back, by what others still have of it; and when nothing is proven."""

from shared_schema.contract.codec import Event, EventData, Outcome, RecordChange
from shared_schema.contract.documents import Document, erase
from shared_schema.contract.registers import Dot, Register, Sibling, Stamp
from shared_schema.contract.restored import Claim, find_false_claim, find_lost_fact

OURS, THEIRS = "v-0000000000000001", "p-0000000000000001"
DEAL = "01890000-0000-7000-8000-000000000002"


def register(counter: int, incarnation: str = OURS) -> Register:
    return Register({incarnation: counter}, (Sibling(Dot(incarnation, counter), Stamp(1, 0), None, "value"),))


def make_fact(number: int, *changes: RecordChange, outcomes: tuple[Outcome, ...] = ()) -> Event:
    id = f"01890000-0000-7000-8000-{number:012x}"
    names = {"source": "/acme/vendor", "type": "deal.changed", "subject": DEAL, "time": "2026-11-25T00:00:00.000Z", "partnership": "acme"}
    return Event(id=id, registration=None, stamp=Stamp(1, 0), data=EventData(records=changes, outcomes=outcomes), **names)


def change(counter: int, incarnation: str = OURS) -> RecordChange:
    return RecordChange(DEAL, "deal", None, None, "partner", {"name": register(counter, incarnation)})


STORED = {DEAL: Document.of({"name": register(5)})}


def test_a_store_that_has_all_that_it_published_did_not_go_back() -> None:
    assert find_lost_fact("vendor", [make_fact(1, change(4)), make_fact(2, change(5))], (), STORED) is None
    assert find_lost_fact("vendor", [], (), {}) is None


def test_the_last_published_write_that_the_store_lacks_is_the_sign() -> None:
    facts = [make_fact(1, change(5)), make_fact(2, change(6)), make_fact(3, change(7))]
    assert find_lost_fact("vendor", facts, (), STORED) == facts[2].id
    assert find_lost_fact("vendor", facts[:1], (), {}) == facts[0].id


def test_a_write_hidden_behind_later_ones_that_are_there_is_a_sign_too() -> None:
    facts = [make_fact(1, change(6)), make_fact(2, change(5))]
    assert find_lost_fact("vendor", facts, (), STORED) == facts[0].id


def test_what_waits_in_the_outbox_is_there_whatever_the_broker_has() -> None:
    fact = make_fact(1, change(6))
    assert find_lost_fact("vendor", [fact], {fact.id}, STORED) is None


def test_the_peers_writes_outcomes_and_what_was_erased_prove_nothing() -> None:
    told = make_fact(1, outcomes=(Outcome(DEAL, "applied", "after all"),))
    assert find_lost_fact("vendor", [told, make_fact(2, change(9, THEIRS))], (), STORED) is None
    assert find_lost_fact("vendor", [make_fact(3, change(9))], (), {DEAL: erase()}) is None


def test_a_published_erasure_that_the_store_does_not_know_is_a_sign() -> None:
    whole, part = (
        RecordChange(DEAL, "deal", None, DEAL, "vendor", {}, erased, fields) for erased, fields in ((True, ()), (False, ("name",)))
    )
    for fact in (make_fact(1, whole), make_fact(2, part)):
        assert find_lost_fact("vendor", [fact], (), STORED) == fact.id
        assert find_lost_fact("vendor", [fact], (), {}) == fact.id
        assert find_lost_fact("vendor", [fact], (), {DEAL: erase()}) is None
    partly = Document.decode(STORED[DEAL].encode())
    partly.erase(["name"])
    assert find_lost_fact("vendor", [make_fact(2, part)], (), {DEAL: partly}) is None


def test_an_acknowledged_epoch_that_never_began_here_is_a_sign() -> None:
    assert "never began" in str(find_false_claim([Claim("00000000000000aa", 3, None, False)], ()))


def test_an_acknowledged_event_is_a_sign_only_if_nothing_here_knows_it() -> None:
    claim = Claim("00000000000000aa", 3, DEAL, True)
    assert "never made" in str(find_false_claim([claim], ()))
    assert find_false_claim([claim], {DEAL}) is None
    assert find_false_claim([claim._replace(event=None)], ()) is None
