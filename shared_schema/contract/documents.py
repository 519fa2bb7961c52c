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
WHOLE = frozenset({ERASED})
ALL = msgspec.Raw(b"true")  # erased as a whole; else what is gone stands there by name

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_register = msgspec.json.Decoder(Register)
_names = msgspec.json.Decoder(list[str])
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
        return iter(sorted(name for name in self._raw if name != ERASED))

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

    def drop(self, name: str) -> None:
        """As if nobody had ever written the field: only for what nobody else has seen."""
        self._touched.pop(name, None)
        self._raw.pop(name, None)

    def registers(self) -> dict[str, Register]:
        return {name: self.get(name) for name in self}

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
    def size(self) -> int:
        """How many bytes it has."""
        return sum(len(name) + len(raw) + len('"":,') for name, raw in self.raw().items()) + 1

    @property
    def gone(self) -> frozenset[str]:
        """What is erased: the fields that were by name, and ERASED if it is the whole record."""
        raw = self._raw.get(ERASED)
        if raw is None:
            return frozenset()
        return WHOLE if raw == ALL else frozenset(_names.decode(raw))

    @property
    def erased(self) -> bool:
        """Whether the whole record is erased."""
        return ERASED in self._raw and ERASED in self.gone

    @property
    def erased_fields(self) -> frozenset[str]:
        """The fields that were erased by name, also where all of it is: more hangs on some of them than on the whole."""
        return self.gone - WHOLE

    def is_erased(self, name: str) -> bool:
        return ERASED in self._raw and not self.gone.isdisjoint((ERASED, name))

    def erase(self, names: Iterable[str] = ()) -> None:
        """Erase the named fields, or everything: nothing that merges afterwards brings any of it back."""
        gone = self.gone | (frozenset(names) or WHOLE)
        for name in list(self._raw) if ERASED in gone else gone:
            self._raw.pop(name, None)
            self._touched.pop(name, None)
        self._raw[ERASED] = ALL if gone == WHOLE else msgspec.Raw(_encoder.encode(sorted(gone)))

    def clear(self) -> None:
        """Leave what a tombstone keeps: life, and of the other fields what was ever written, without any value. What was covered then
        stays covered, so that nothing late brings it back."""
        for name in self:
            if name != LIFE:
                self.put(name, Register(self.get(name).context, ()))

    @property
    def has_content(self) -> bool:
        """Whether any field but life has a value."""
        return any(self.get(name).siblings for name in self if name != LIFE)

    def merge_in(self, name: str, incoming: Register) -> bool:
        """Merge one field in place; whether its state changed."""
        if self.is_erased(name):
            return False
        before = self.get(name)
        after = merge(before, incoming)
        if after is before or (after is not incoming and after == before):
            return False
        self.put(name, after)
        return True


def merge_documents(left: Document, right: Document) -> Document:
    """Field by field; merge with erased is erased, whatever arrives."""
    merged = Document(left.raw())
    if right.gone:
        merged.erase(right.gone)
    for name in right:
        merged.merge_in(name, right.get(name))
    return merged


def erase() -> Document:
    """What is left of an erased record: the fact, and no content."""
    return Document({ERASED: ALL})


def hash_record(uid: str, document: bytes) -> int:
    """64 bits, signed, of the uid and the canonical bytes that count: see life.hashed_bytes."""
    digest = hashlib.blake2b(document, digest_size=8, key=uid.encode()[:64])
    return int.from_bytes(digest.digest(), "big", signed=True)


def bucket_of(uid: str) -> int:
    """The digest bucket of a record, 0 to 4095: UUIDs end in random bits."""
    return int(uid[-3:], 16)
