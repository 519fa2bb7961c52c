"""The wrong variants of the contract: each patches one function of the real code."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from shared_schema.contract import life, refusal, registers
from shared_schema.contract.codec import RecordChange
from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.registers import Context, Register, Sibling, covers, encode_value, join
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.sync import capture


def cover_what_is_stored() -> Any:
    """1: a save covers what is stored, whatever was shown."""
    real = registers.write

    def write(register: Register, seen: Context, sibling: Sibling) -> Register:
        return real(register, register.context, sibling)

    return patch.object(capture, "write", write)


def one_context_per_record() -> Any:
    """2: what was seen of one field counts as seen of every field."""
    real = Document.merge_in

    def merge_in(self: Document, name: str, incoming: Register) -> bool:
        whole: dict[str, int] = {}
        for each in self:
            whole = join(whole, self.get(each).context)
        before = self.get(name)
        self.put(name, Register(join(before.context, whole), before.siblings))
        return real(self, name, incoming)

    return patch.object(Document, "merge_in", merge_in)


def ship_only_the_new_sibling() -> Any:
    """3: an event carries the sibling that its command wrote, and not the others."""
    real = capture.change_of

    def change_of(record: SharedRecord, fields: set[str]) -> RecordChange:
        whole = real(record, fields)
        newest = {name: max(each.siblings, key=lambda sibling: sibling.stamp) for name, each in whole.fields.items()}
        return RecordChange(
            whole.uid,
            whole.kind,
            whole.parent,
            whole.registration,
            whole.side,
            {name: Register(each.context, (newest[name],)) for name, each in whole.fields.items()},
        )

    return patch.object(capture, "change_of", change_of)


def skip_unchanged_in_a_conflict() -> Any:
    """4: saving one of two siblings' values again is skipped."""

    def is_settled_as(register: Register, value: Any) -> bool:
        return any(encode_value(sibling.value) == encode_value(value) for sibling in register.siblings)

    return patch.object(capture, "is_settled_as", is_settled_as)


def believe_own_contexts() -> Any:
    """16: nobody checks what the peer claims to have seen of ours."""
    return patch.object(refusal, "refuse_own_context", lambda own, stored, incoming: None)


def contest_each_deletion() -> Any:
    """18: contested is tested against each deletion, not against their union."""

    def unseen_fields(document: Document) -> list[str]:
        deletions = [each for each in document.get(LIFE).siblings if life.is_deletion(each)]
        return [
            name
            for name in document
            if name != LIFE
            and any(
                not covers(life.seen_of(deletion).get(name, {}), sibling.dot)
                for deletion in deletions
                for sibling in document.get(name).siblings
            )
        ]

    return patch.object(life, "unseen_fields", unseen_fields)


def erased_does_not_absorb() -> Any:
    """19: what arrives after an erasure is merged all the same."""
    return patch.object(Document, "is_erased", lambda self, name: False)


VARIANTS: dict[str, Callable[[], Any]] = {
    "1": cover_what_is_stored,
    "2": one_context_per_record,
    "3": ship_only_the_new_sibling,
    "4": skip_unchanged_in_a_conflict,
    "16": believe_own_contexts,
    "18": contest_each_deletion,
    "19": erased_does_not_absorb,
}
