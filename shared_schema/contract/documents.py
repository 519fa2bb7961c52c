"""A shared record's document: its fields' registers in canonical bytes, decoded one register at a time.

Canonical means that equal states have equal bytes on both sides, whatever order they arrived in; the record hash is of those bytes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from shared_schema.contract.registers import EMPTY, Register, merge

LIFE = "life"
ERASED = "$erased"

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_register = msgspec.json.Decoder(Register)
_encoder = msgspec.json.Encoder(order="sorted")


class Document:
    """Fields by name. Untouched registers stay as bytes and changed ones are encoded once, at the end, so a change costs what it
    changes and not what the record holds."""

    __slots__ = ("_raw", "_touched")

    def __init__(self, raw: Mapping[str, msgspec.Raw] | None = None) -> None:
        self._raw: dict[str, Any] = dict(raw or {})
        self._touched: dict[str, Register] = {}

    @classmethod
    def decode(cls, stored: bytes | str) -> "Document":
        """A stored document; raises msgspec.DecodeError for damaged bytes."""
        document = cls()
        document._raw = _fields.decode(stored)
        return document

    @classmethod
    def of(cls, registers: Mapping[str, Register]) -> "Document":
        document = cls()
        for name, register in registers.items():
            document.put(name, register)
        return document

    def __contains__(self, name: str) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._raw))

    def get(self, name: str) -> Register:
        """The field's register; an empty one if nobody ever wrote it."""
        touched = self._touched.get(name)
        if touched is not None:
            return touched
        raw = self._raw.get(name)
        if raw is None:
            return EMPTY
        register = _register.decode(raw)
        self._touched[name] = register
        return register

    def put(self, name: str, register: Register) -> None:
        self._touched[name] = register
        self._raw[name] = None

    def registers(self) -> dict[str, Register]:
        return {name: self.get(name) for name in self if name != ERASED}

    def only(self, names: Iterable[str]) -> "Document":
        """The named fields as they stand: what an event carries, whole registers and never deltas."""
        raw = self.raw()
        return Document({name: raw[name] for name in names if name in raw})

    def encode(self) -> bytes:
        return _encoder.encode(self.raw())

    def raw(self) -> dict[str, msgspec.Raw]:
        """Every field's canonical bytes."""
        raw = self._raw
        for name, register in self._touched.items():
            if raw[name] is None:
                raw[name] = msgspec.Raw(_encoder.encode(register))
        return raw

    @property
    def erased(self) -> bool:
        return ERASED in self._raw

    def merge_in(self, name: str, incoming: Register) -> bool:
        """Merge one field in place; whether its state changed."""
        before = self.get(name)
        after = merge(before, incoming)
        if after is before or (after is not incoming and after == before):
            return False
        self.put(name, after)
        return True


def merge_documents(left: Document, right: Document) -> Document:
    """Field by field; merge with erased is erased, whatever arrives."""
    if left.erased or right.erased:
        return erase()
    merged = Document(left.raw())
    for name in right:
        merged.merge_in(name, right.get(name))
    return merged


def erase() -> Document:
    """What is left of an erased record: the fact, and no content."""
    return Document({ERASED: msgspec.Raw(b"true")})


def hash_record(uid: str, document: bytes) -> int:
    """64 bits, signed, of the uid and the canonical bytes that count: see life.hashed_bytes."""
    digest = hashlib.blake2b(document, digest_size=8, key=uid.encode()[:64])
    return int.from_bytes(digest.digest(), "big", signed=True)


def bucket_of(uid: str) -> int:
    """The digest bucket of a record, 0 to 4095: UUIDs end in random bits."""
    return int(uid[-3:], 16)
