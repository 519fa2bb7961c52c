"""Two nodes as the contract sees them: a record each, writes by the real capture, and messages that may come late, twice or never."""

from random import Random
from typing import NamedTuple

from shared_schema.contract.documents import Document
from shared_schema.contract.policy import Policy
from shared_schema.contract.refusal import Door, refuse
from shared_schema.contract.registers import Dot, Side, decode_token, encode_token
from shared_schema.contract.room import SIDE_SIBLINGS_MAX, count_siblings
from shared_schema.crm.problems import WrongState
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.sync.capture import Command, Write, change_of, make_write
from shared_schema.sync.incarnation import Incarnation

UID = "01a0c450-6c00-71a4-af33-b1fbcf16676a"
FIELDS = ("name", "next_step")
COMMAND = Command("acme", UID, "deal.changed", None, ())


class Ticking:
    """A clock that a test sets, with randomness of its own."""

    def __init__(self, seed: str) -> None:
        self.ms = 1_790_000_000_000
        self.random = Random(seed)

    def now_ms(self) -> int:
        return self.ms

    def random_bits(self, bits: int) -> int:
        return self.random.getrandbits(bits)


class Message(NamedTuple):
    """A field's whole register on its way, and which writes its sender knew."""

    to: Side
    field: str
    document: Document
    known: frozenset[Dot]


class Token(NamedTuple):
    """What a person was shown: the field, the opaque token, and which writes were known there."""

    at: Side
    field: str
    text: str
    known: frozenset[Dot]


class Node:
    """One side's copy of one deal. `known` is kept by the test alone: per field, every write that ever reached this copy."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.clock = Ticking(side)
        self.incarnation = Incarnation(side, self.clock)
        self.record = SharedRecord("acme", UID, "deal", None, UID, "partner", Document())
        self.known: dict[str, set[Dot]] = {field: set() for field in FIELDS}

    @property
    def peer(self) -> Side:
        return "vendor" if self.side == "partner" else "partner"

    def read(self, field: str) -> Token:
        return Token(self.side, field, encode_token(self.record.document.get(field).context), frozenset(self.known[field]))

    def save(self, field: str, value: str, token: Token | None) -> Dot | None:
        """The new write's dot, or None where nothing was to be written, or where nothing is before the conflict is settled."""
        seen = None if token is None else decode_token(token.text)
        try:
            sibling = make_write(self.incarnation, Policy(), COMMAND, self.record, Write(UID, field, value, seen))
        except WrongState:
            if count_siblings(self.record.document.get(field), self.side) < SIDE_SIBLINGS_MAX:
                raise
            return None
        if sibling is None:
            return None
        self.known[field].add(sibling.dot)
        return sibling.dot

    def send(self, field: str) -> Message:
        change = change_of(self.record, {field})
        return Message(self.peer, field, Document.of(change.fields), frozenset(self.known[field]))

    def receive(self, message: Message) -> None:
        door = Door(self.side, Policy(), "deal", "partner")
        refused = refuse(door, self.record.document, message.document)
        assert not refused, f"an honest event was refused: {refused}"
        self.record.document.merge_in(message.field, message.document.get(message.field))
        self.known[message.field] |= message.known

    def dots(self, field: str) -> set[Dot]:
        return {sibling.dot for sibling in self.record.document.get(field).siblings}
