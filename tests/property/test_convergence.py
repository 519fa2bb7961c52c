"""Any two nodes, any order of saves and deliveries: they end equal, and a write is gone only if somebody who replaced it had it in view.

The expectation is the test's own: sets of writes, kept beside the nodes, without contexts or counters.
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from shared_schema.contract.documents import hash_record
from shared_schema.contract.policy import display
from shared_schema.contract.registers import Dot, Side, differs, side_of
from shared_schema.contract.room import SIDE_SIBLINGS_MAX
from tests.property.nodes import FIELDS, UID, Message, Node, Token

SIDES: tuple[Side, Side] = ("partner", "vendor")
sides, fields, values = st.sampled_from(SIDES), st.sampled_from(FIELDS), st.sampled_from(("red", "green", "blue"))


class TwoNodes(RuleBasedStateMachine):
    """`replaced`: per write, what its author had been shown."""

    tokens = Bundle("tokens")
    messages = Bundle("messages")

    @initialize()
    def begin(self) -> None:
        self.nodes = {side: Node(side) for side in SIDES}
        self.replaced: dict[tuple[str, Dot], frozenset[Dot]] = {}
        self.contexts: dict[tuple[Side, str], dict[str, int]] = {}
        self.sent: list[Message] = []

    @rule(target=tokens, side=sides, field=fields)
    def read(self, side: Side, field: str) -> Token:
        return self.nodes[side].read(field)

    @rule(target=messages, token=tokens, value=values)
    def save_what_was_shown(self, token: Token, value: str) -> object:
        return self.save(token.at, token.field, value, token)

    @rule(target=messages, side=sides, field=fields, value=values)
    def save_without_a_token(self, side: Side, field: str, value: str) -> object:
        return self.save(side, field, value, None)

    def save(self, side: Side, field: str, value: str, token: Token | None) -> object:
        node = self.nodes[side]
        shown = frozenset(node.known[field]) if token is None else token.known
        left = self.survivors(field, node.known[field])
        dot = node.save(field, value, token)
        if dot is None:
            full = sum(side_of(each.incarnation) == side for each in left) >= SIDE_SIBLINGS_MAX
            assert len(left) == 1 or full, "a save was skipped although it would have settled a conflict"
            return multiple()
        self.replaced[field, dot] = shown
        message = node.send(field)
        self.sent.append(message)
        return message

    @rule(side=sides, ms=st.integers(-3_600_000, 3_600_000))
    def set_clock(self, side: Side, ms: int) -> None:
        self.nodes[side].clock.ms += ms

    @rule(side=sides)
    def restart(self, side: Side) -> None:
        self.nodes[side].incarnation.renew()

    @rule(message=messages)
    def deliver(self, message: Message) -> None:
        self.nodes[message.to].receive(message)

    @rule(message=consumes(messages))
    def lose(self, message: Message) -> None:
        """It never comes; a later one will do."""

    def survivors(self, field: str, known: set[Dot]) -> set[Dot]:
        """Of these writes, those that no author among them had been shown."""
        gone = {old for dot in known for old in self.replaced[field, dot]}
        return known - gone

    @invariant()
    def each_node_shows_what_nobody_replaced(self) -> None:
        for node in getattr(self, "nodes", {}).values():
            for field in FIELDS:
                assert node.dots(field) == self.survivors(field, node.known[field])

    @invariant()
    def contexts_grow(self) -> None:
        for side, node in getattr(self, "nodes", {}).items():
            for field in FIELDS:
                before, now = self.contexts.get((side, field), {}), node.record.document.get(field).context
                assert all(now.get(name, 0) >= counter for name, counter in before.items())
                self.contexts[side, field] = dict(now)

    def teardown(self) -> None:
        if not hasattr(self, "nodes"):
            return
        partner, vendor = (self.nodes[side] for side in SIDES)
        for node, other in ((partner, vendor), (vendor, partner)):
            for field in filter(node.record.document.__contains__, FIELDS):
                other.receive(node.send(field))
        self.check_equal()
        for message in self.sent:  # the past, once more: a closed conflict does not come back
            self.nodes[message.to].receive(message)
        self.check_equal()

    def check_equal(self) -> None:
        partner, vendor = (self.nodes[side] for side in SIDES)
        whole = partner.record.document.encode()
        assert whole == vendor.record.document.encode()
        assert hash_record(UID, whole) == hash_record(UID, vendor.record.document.encode())
        for field in FIELDS:
            everything = {dot for name, dot in self.replaced if name == field}
            assert partner.dots(field) == self.survivors(field, everything)
            for wanted in ("latest", "vendor", "partner"):
                here, there = (display(node.record.document.get(field), wanted) for node in (partner, vendor))
                assert here == there


TwoNodes.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
test_two_nodes = TwoNodes.TestCase


@given(st.lists(st.tuples(sides, fields, values), max_size=12))
def test_edits_one_after_another_never_make_a_conflict(edits: list[tuple[Side, str, str]]) -> None:
    nodes = {side: Node(side) for side in SIDES}
    for side, field, value in edits:
        node = nodes[side]
        if node.save(field, value, node.read(field)) is not None:
            nodes[node.peer].receive(node.send(field))
        for each in nodes.values():
            assert len(each.record.document.get(field).siblings) == 1 and not differs(each.record.document.get(field))


@given(fields, st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6))
def test_any_order_and_any_repetition_gives_the_same_state(field: str, order: list[int], again: list[int]) -> None:
    partner = Node("partner")
    messages = []
    for count in range(6):
        partner.save(field, f"value {count}", None if count % 2 else partner.read(field))
        messages.append(partner.send(field))
    straight, shuffled = Node("vendor"), Node("vendor")
    for message in messages:
        straight.receive(message)
    for place in [*order, *again]:
        shuffled.receive(messages[place])
    assert straight.record.document.encode() == shuffled.record.document.encode() == partner.record.document.encode()
