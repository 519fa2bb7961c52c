"""The room that each side has in a field and in a record: every record that it lets be can be stated in one event."""

import pytest

from shared_schema.contract.codec import encode_event
from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.envelope import EVENT_BYTES_MAX
from shared_schema.contract.policy import Policy
from shared_schema.contract.records import InvalidValue
from shared_schema.contract.refusal import REASONS, Door, refuse, refuse_fields
from shared_schema.contract.registers import CONTEXT_ALARM, Dot, Register, Sibling, Stamp, in_dot_order, join
from shared_schema.contract.room import ROOM_BYTES, SIDE_CONTEXT_MAX, SIDE_SIBLINGS_MAX, SIDES, VALUE_BYTES_MAX, weigh
from shared_schema.crm.problems import WrongState
from shared_schema.crm.shared_records import SharedRecord, find_long_contexts
from shared_schema.sync.capture import NotWritable, Write, check_room, make_write
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.outbox import EventTooLarge
from shared_schema.sync.restate import make_statement
from tests.property.nodes import COMMAND, UID, Node, Ticking

VENDOR = Door("vendor", Policy(), "deal", "partner")
DOMAIN = Door("vendor", Policy(), "registration", "partner")


def write(incarnation: str, counter: int, value: object, *seen: Register) -> Register:
    context: dict[str, int] = {incarnation: counter}
    for each in seen:
        context = join(context, each.context)
    return Register(context, (Sibling(Dot(incarnation, counter), Stamp(1, 0), None, value),))


def name(side: str, place: int) -> str:
    return f"{side}-{place:016x}"


def receive(stored: Document, field: str, register: Register, door: Door = VENDOR) -> str | None:
    """Merge it if the door lets it in; else the reason."""
    refused = refuse_fields(door, stored, {field: register})
    assert refused == refuse(door, stored, Document.of({field: register})) and set(refused.values()) <= REASONS.keys()
    if not refused:
        stored.merge_in(field, register)
    return refused.get(field)


def state_bytes(document: Document, kind: str = "deal") -> int:
    record = SharedRecord("a-partnership-with-a-long-name", UID, kind, UID, UID, "partner", document)
    return len(encode_event(make_statement(Incarnation("vendor", Ticking("x")), record.partnership, [record])))


def test_siblings_that_come_one_by_one_are_refused_as_many_at_once_are() -> None:
    stored = Document.of({"name": write(name("v", 1), 1, "ours")})
    reasons = [receive(stored, "name", write(name("p", place), 1, "forged")) for place in range(SIDE_SIBLINGS_MAX + 3)]
    assert reasons == [None] * SIDE_SIBLINGS_MAX + ["too_many_siblings"] * 3
    settled = write(name("p", 99), 1, "settled", stored.get("name"))
    assert receive(stored, "name", settled) is None and len(stored.get("name").siblings) == 1


def test_no_honest_write_is_refused_however_many_are_concurrent() -> None:
    """Each side's people save on pages that have seen nothing, as often as their own node lets them; then the two sides meet."""
    partner, vendor = Node("partner"), Node("vendor")
    blank = partner.read("name")
    for count in range(SIDE_SIBLINGS_MAX + 2):
        partner.save("name", f"p{count}", blank)
        vendor.save("name", f"v{count}", blank)
    vendor.receive(partner.send("name"))
    partner.receive(vendor.send("name"))
    assert len(vendor.dots("name")) == 2 * SIDE_SIBLINGS_MAX and vendor.dots("name") == partner.dots("name")
    assert vendor.save("name", "settled", vendor.read("name")) is not None
    partner.receive(vendor.send("name"))
    assert len(partner.dots("name")) == 1


def test_a_field_takes_very_many_incarnations_of_a_side_and_then_says_so_and_what_to_do() -> None:
    """Its people get one error; the other side has its own room, and its door knows the same limit."""
    partner, vendor = Node("partner"), Node("vendor")
    for count in range(SIDE_CONTEXT_MAX):
        vendor.incarnation.renew()
        vendor.save("name", f"v{count}", None)
    partner.receive(vendor.send("name"))
    vendor.incarnation.renew()
    with pytest.raises(WrongState, match="name of this deal was written by 512 incarnations") as error:
        vendor.save("name", "one more", None)
    assert error.value.field == "name" and "share it again" in str(error.value.remedy)
    partner.save("name", "the partner's", None)
    vendor.receive(partner.send("name"))
    forged = write(name("v", 1), 1, "forged", partner.record.document.get("name"))
    assert receive(partner.record.document, "name", forged, Door("partner", Policy(), "deal", "partner")) == "context_too_long"


def test_a_context_that_grows_long_is_told_once() -> None:
    vendor = Node("vendor")
    told = []
    for count in range(CONTEXT_ALARM + 5):
        vendor.incarnation.renew()
        vendor.record.touched.clear()
        vendor.save("name", f"v{count}", None)
        told += find_long_contexts([vendor.record])
    assert [each.entries for each in told] == list(range(CONTEXT_ALARM, CONTEXT_ALARM + 6))[: len(told)] and len(told) == 6
    assert [each.fresh for each in told] == [True] + [False] * 5 and {each.field for each in told} == {"name"}


def test_a_value_longer_than_any_field_takes_is_refused() -> None:
    stored = Document()
    assert receive(stored, "of_tomorrow", write(name("p", 1), 1, "x" * VALUE_BYTES_MAX)) == "value_too_large"
    assert receive(stored, "of_tomorrow", write(name("p", 1), 1, "x" * (VALUE_BYTES_MAX - 2))) is None


def test_whatever_is_let_in_each_record_can_be_stated_in_one_event_and_the_other_side_goes_on() -> None:
    stored = Document.of({"name": write(name("v", 1), 1, "ours")})
    values = ["x" * 200_000, "\x01" * 30_000, 1e15, {"a": ["ü" * 1_000] * 20}] * 30
    reasons = [receive(stored, f"field{n}", write(name("p", n), 2**53, value)) for n, value in enumerate(values)]
    assert None in reasons and set(reasons[40:]) >= {"record_full"}
    for n in range(2_000):
        receive(stored, "f" * 40 + str(n), write(name("p", n), 2**53, None))
    assert ROOM_BYTES - 200 < weigh(stored, "partner") <= ROOM_BYTES and sum(weigh(stored, side) for side in SIDES) >= stored.size
    node = Node("vendor")
    node.record.document = stored
    for n in range(2):
        node.save("next_step", f"ours {n}", None)
    check_room(node.incarnation, [node.record])
    smaller = write(name("p", 5_000), 1, "small", stored.get("field0"))
    assert receive(stored, "field0", smaller) is None
    assert state_bytes(stored) <= EVENT_BYTES_MAX


def test_two_sides_that_fill_their_rooms_leave_a_record_that_an_event_can_carry() -> None:
    stored = Document()
    for side in ("p", "v"):
        for n in range(9):
            stored.merge_in(f"field{n}", write(name(side, n), 1, f"{n}" * 49_000))
    assert all(weigh(stored, side) > ROOM_BYTES - 10_000 for side in SIDES) and state_bytes(stored) <= EVENT_BYTES_MAX


def test_our_own_people_are_told_of_the_same_limits() -> None:
    incarnation = Incarnation("partner", Ticking("x"))
    record = SharedRecord("acme", UID, "registration", None, UID, "partner", Document())
    with pytest.raises(InvalidValue, match="pain takes at most 262,144 bytes"):
        make_write(incarnation, Policy(), COMMAND, record, Write(UID, "pain", "\x01" * 60_000))
    for field in ("intro_note", "pain"):
        make_write(incarnation, Policy(), COMMAND, record, Write(UID, field, "😀" * 65_000))
    with pytest.raises(EventTooLarge, match="shorten its texts"):
        check_room(incarnation, [record])


def test_what_is_written_when_a_record_is_made_is_never_written_again() -> None:
    first = write(name("p", 1), 2, "globex.example")
    stored = Document()
    assert receive(stored, "domain", first, DOMAIN) is None and receive(stored, "domain", first, DOMAIN) is None
    assert receive(stored, "domain", write(name("p", 2), 1, "other.example", first), DOMAIN) == "written_once"
    assert receive(stored, "domain", write(name("p", 2), 1, "other.example"), DOMAIN) == "written_once"
    hollow = Register({name("p", 1): 2}, (Sibling(Dot(name("p", 1), 1), Stamp(1, 0), None, "older"),))
    assert receive(stored, "domain", hollow, DOMAIN) == "written_once"
    assert receive(stored, "domain", write(name("p", 2), 1, "other.example"), DOMAIN._replace(running="v-1")) == "written_once"
    both = Register({name("p", 1): 1, name("p", 2): 1}, in_dot_order([*first.siblings, *write(name("p", 2), 1, "b").siblings]))
    assert receive(Document(), "domain", both, DOMAIN) in ("written_once", "bad_register")
    assert [each.value for each in stored.get("domain").siblings] == ["globex.example"]
    assert receive(stored, "pain", write(name("p", 3), 1, "said better"), DOMAIN) is None


def test_nor_is_it_by_our_own_commands() -> None:
    incarnation = Incarnation("partner", Ticking("x"))
    record = SharedRecord("acme", UID, "registration", None, UID, "partner", Document())
    assert make_write(incarnation, Policy(), COMMAND, record, Write(UID, "domain", "globex.example")) is not None
    assert make_write(incarnation, Policy(), COMMAND, record, Write(UID, "domain", "globex.example")) is None
    with pytest.raises(NotWritable, match="domain of this registration was written when it was made"):
        make_write(incarnation, Policy(), COMMAND, record, Write(UID, "domain", "other.example"))


@pytest.mark.parametrize("writers", [1, 40, SIDE_CONTEXT_MAX])
def test_what_the_other_side_filled_can_still_be_deleted_for_both(writers: int) -> None:
    """Whoever fills a deal with fields of tomorrow, each written by so many incarnations, does not keep it alive by that."""
    node = Node("vendor")
    stored = node.record.document
    for _ in range(200):
        node.incarnation.renew()
        node.save("name", "😀" * 400, node.read("name"))
        node.save("next_step", f"{node.incarnation.name} {'😀' * 400}", node.read("next_step"))
    value = (Sibling(Dot(name("p", 0), 1), Stamp(1, 0), None, None),)
    flood = {f"f{n:062}": Register({name("p", place): 1 for place in range(writers)}, value) for n in range(3_000)}
    refused = refuse_fields(VENDOR, stored, flood)
    for field in flood.keys() - refused.keys():
        stored.merge_in(field, flood[field])
    assert ROOM_BYTES - 30_000 < weigh(stored, "partner") <= ROOM_BYTES
    assert make_write(node.incarnation, Policy(), COMMAND, node.record, Write(UID, LIFE, node.record.deletion())) is not None
    check_room(node.incarnation, [node.record])
    assert node.record.state == "deleted" and state_bytes(stored) <= EVENT_BYTES_MAX
    partner = Document(stored.raw())
    partner.drop(LIFE)
    assert receive(partner, LIFE, stored.get(LIFE), Door("partner", Policy(), "deal", "partner")) is None
    stored.merge_in(f"f{0:062}", write(name("p", 9_999), 1, "unseen"))
    assert node.record.state == "contested", "a write that it had not seen"


def test_a_deletion_may_say_all_that_it_had_seen() -> None:
    seen = {"state": "deleted", "seen": {f"field{n}": {name("p", n): 1} for n in range(8_000)}}
    assert receive(Document(), LIFE, write(name("p", 1), 1, seen)) is None
