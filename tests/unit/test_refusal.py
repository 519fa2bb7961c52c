"""What a receiver refuses (design §3.11), reason by reason; and that the field goes on working after a forgery."""

import pytest

from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.policy import Policy, make_policy
from shared_schema.contract.refusal import REASONS, Door, refuse, refuse_new_dots
from shared_schema.contract.registers import COUNTER_MAX, Dot, Register, Sibling, Stamp, in_dot_order
from tests.property.nodes import Message, Node

OURS, THEIRS, OTHERS = "v-0000000000000001", "p-0000000000000001", "p-0000000000000002"
VENDOR = Door("vendor", Policy(), "deal", "partner")


def sibling(incarnation: str, counter: int, value: object = "value") -> Sibling:
    return Sibling(Dot(incarnation, counter), Stamp(1, 0), None, value)


def register(*siblings: Sibling, **more: int) -> Register:
    context = {each.dot.incarnation: each.dot.counter for each in siblings} | {
        name.replace("_", "-"): count for name, count in more.items()
    }
    return Register(context, in_dot_order(siblings))


STORED = register(sibling(OURS, 3), sibling(THEIRS, 2))
FORGERIES = [
    ("own_context_ahead", "name", Register({OURS: 10**9, THEIRS: 5}, (sibling(THEIRS, 5),))),
    ("own_context_ahead", "name", Register({"v-00000000000000ff": 1, THEIRS: 5}, (sibling(THEIRS, 5),))),
    ("own_value_changed", "name", register(sibling(OURS, 3, "what we never said"), sibling(THEIRS, 2))),
    ("dot_reused", "name", register(sibling(OURS, 3), sibling(THEIRS, 2, "another"))),
    ("dot_reused", "name", Register({THEIRS: 5}, (sibling(THEIRS, 5), sibling(THEIRS, 5, "another")))),
    ("bad_register", "next_step", Register({THEIRS: 5, OURS: 0}, (sibling(THEIRS, 5),))),
    ("not_writable", "vendor_stage", register(sibling(THEIRS, 5))),
    ("too_many_siblings", "name", register(*(sibling(f"p-{place:016x}", 1) for place in range(17)))),
    ("context_too_long", "name", Register({f"p-{place:016x}": 1 for place in range(513)}, (sibling("p-0000000000000001", 1),))),
    ("bad_register", "name", Register({THEIRS: 5}, ())),
    ("bad_register", "name", Register({THEIRS: 4}, (sibling(THEIRS, 5),))),
    ("bad_register", "name", Register({THEIRS: COUNTER_MAX + 1}, (sibling(THEIRS, 5),))),
    ("bad_register", "name", Register({THEIRS: -1, OTHERS: 5}, (sibling(OTHERS, 5),))),
    ("bad_register", "name", Register({"x-0000000000000001": 5}, (sibling("x-0000000000000001", 5),))),
]


@pytest.mark.parametrize(("reason", "field", "incoming"), FORGERIES)
def test_a_forged_field_is_refused_and_its_neighbour_is_not(reason: str, field: str, incoming: Register) -> None:
    stored = Document.of({"name": STORED})
    good = register(sibling(OTHERS, 1))
    refused = refuse(VENDOR, stored, Document.of({field: incoming, "amount": good}))
    assert refused == {field: reason} and reason in REASONS


def test_a_new_dot_must_be_the_senders_even_if_its_context_were_believed() -> None:
    fresh = register(sibling(OURS, 9))
    assert refuse_new_dots(VENDOR, "name", STORED, fresh) == "foreign_dot"


def test_a_new_dot_of_our_side_under_a_context_that_we_have_is_foreign() -> None:
    stored = Document.of({"name": Register({OURS: 3, THEIRS: 2}, (sibling(OURS, 3),))})
    forged = Register({OURS: 3, THEIRS: 5}, (sibling(OURS, 2, "revived"), sibling(THEIRS, 5)))
    assert refuse(VENDOR, stored, Document.of({"name": forged})) == {}  # not new: covered here, so merging drops it
    assert stored.merge_in("name", forged)
    assert [each.dot for each in stored.get("name").siblings] == [Dot(THEIRS, 5)]


def test_taking_a_value_away_needs_the_right_to_write() -> None:
    stored = Document.of({"vendor_stage": register(sibling(OURS, 3))})
    bare = Register({OURS: 3, THEIRS: 9}, (sibling(OURS, 3),))
    assert refuse(VENDOR, stored, Document.of({"vendor_stage": bare})) == {}
    erasing = Register({OURS: 3, THEIRS: 9}, (sibling(THEIRS, 9),))
    assert refuse(VENDOR, stored, Document.of({"vendor_stage": erasing})) == {"vendor_stage": "not_writable"}


def test_a_deletion_may_not_claim_to_have_seen_what_we_never_wrote() -> None:
    stored = Document.of({"name": STORED})
    deletion = {"state": "deleted", "seen": {"name": {OURS: 10**9}}}
    life = register(sibling(THEIRS, 7, deletion))
    assert refuse(VENDOR, stored, Document.of({LIFE: life})) == {LIFE: "own_context_ahead"}
    honest = register(sibling(THEIRS, 7, {"state": "deleted", "seen": {"name": {OURS: 3}}}))
    assert refuse(VENDOR, stored, Document.of({LIFE: honest})) == {}


def test_the_creator_rule_of_hubspot_parity_is_the_doors_too() -> None:
    door = Door("vendor", make_policy({"preset": "hubspot-parity"}), "deal", "vendor")
    incoming = Document.of({"name": register(sibling(THEIRS, 1)), "next_step": register(sibling(THEIRS, 1))})
    assert refuse(door, Document(), incoming) == {"name": "not_writable"}
    assert refuse(door._replace(creator="partner"), Document(), incoming) == {}


def test_an_edit_made_after_a_forged_context_of_a_billion_reaches_the_other_side() -> None:
    partner, vendor = Node("partner"), Node("vendor")
    vendor.save("name", "before", None)
    partner.receive(vendor.send("name"))
    ours = vendor.incarnation.name
    forged = Document.of({"name": Register({ours: 10**9, THEIRS: 1}, (sibling(THEIRS, 1, "forged"),))})
    with pytest.raises(AssertionError, match="own_context_ahead"):
        vendor.receive(Message("vendor", "name", forged, frozenset()))
    vendor.save("name", "after", None)
    partner.receive(vendor.send("name"))
    assert [each.value for each in partner.record.document.get("name").siblings] == ["after"]


RESTORING = VENDOR._replace(running="v-00000000000000aa")


def test_while_our_store_is_being_restored_our_own_writes_come_back() -> None:
    lost = Register({OURS: 7, THEIRS: 5}, (sibling(OURS, 7, "lost"), sibling(THEIRS, 5)))
    stage = Register({OURS: 8}, (sibling(OURS, 8, {"stage": "Won"}),))
    incoming = Document.of({"name": lost, "vendor_stage": stage})
    stored = Document.of({"name": STORED, "vendor_stage": register(sibling(OURS, 3))})
    assert refuse(VENDOR, stored, incoming) == {"name": "own_context_ahead", "vendor_stage": "own_context_ahead"}
    assert refuse(RESTORING, stored, incoming) == {}
    seen = {"state": "deleted", "seen": {"name": {OURS: 7}}}
    assert refuse(RESTORING, stored, Document.of({LIFE: register(sibling(THEIRS, 7, seen))})) == {}


def test_even_then_no_dot_gets_a_second_value_and_nobody_writes_what_is_not_theirs() -> None:
    stored = Document.of({"name": STORED, "vendor_stage": register(sibling(OURS, 3))})
    twice = Document.of({"name": register(sibling(OURS, 3, "what we never said"), sibling(THEIRS, 2))})
    assert refuse(RESTORING, stored, twice) == {"name": "own_value_changed"}
    theirs = Document.of({"vendor_stage": register(sibling(OURS, 3), sibling(THEIRS, 9)), "partner_stage": register(sibling(OURS, 9))})
    assert refuse(RESTORING, stored, theirs) == {"vendor_stage": "not_writable", "partner_stage": "not_writable"}


def test_even_then_nobody_claims_to_have_seen_what_this_process_has_yet_to_write() -> None:
    """Its incarnation was drawn after the store went back: a context that names it would hide the edits to come."""
    ahead = Register({RESTORING.running or "": 10**9, THEIRS: 5}, (sibling(THEIRS, 5),))
    assert refuse(RESTORING, Document.of({"name": STORED}), Document.of({"name": ahead})) == {"name": "own_context_ahead"}
