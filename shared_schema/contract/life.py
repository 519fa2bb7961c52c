"""Life and deletion: alive, deleted or contested, as a pure function of a document.

A deletion carries, per field, the context that its author was shown. A deal is contested exactly if some value is outside the union
of the deletions present, or someone restored it meanwhile. Of a note or comment the deletion stands. Of a product line an addition wins.
"""

from collections.abc import Container, Iterable, Mapping
from typing import Any, Literal

from shared_schema.contract.documents import LIFE, Document, hash_record
from shared_schema.contract.registers import Context, Register, Sibling, covers, join

State = Literal["alive", "deleted", "contested", "erased"]
DeletionRule = Literal["contest", "delete_wins", "add_wins"]

ALIVE: dict[str, Any] = {"state": "alive"}


def make_deletion(document: Document, known: Container[str], shown: Mapping[str, Context] | None = None) -> dict[str, Any]:
    """The value of a deletion by someone who was shown these contexts; by default, everything stored. Of fields that this version does not
    know it names no more than the values that are there: nothing that they replaced comes back, and the other side may have filled the
    record with their contexts."""
    seen = shown if shown is not None else {name: document.get(name).context for name in document if name != LIFE}
    told = {name: dict(context) if name in known else dots_within(document.get(name), context) for name, context in seen.items()}
    return {"state": "deleted", "seen": {name: context for name, context in told.items() if context or name in known}}


def dots_within(register: Register, shown: Context) -> dict[str, int]:
    """Of the values that are there, those that a context covers, as one."""
    dots = sorted(sibling.dot for sibling in register.siblings if covers(shown, sibling.dot))
    return {dot.incarnation: dot.counter for dot in dots}


def is_deletion(sibling: Sibling) -> bool:
    return isinstance(sibling.value, dict) and sibling.value.get("state") == "deleted"


def seen_by(deletions: Iterable[Sibling]) -> dict[str, dict[str, int]]:
    """Per field, what the deletions together had in view."""
    union: dict[str, dict[str, int]] = {}
    for deletion in deletions:
        for name, context in seen_of(deletion).items():
            union[name] = join(union.get(name, {}), context)
    return union


def seen_of(deletion: Sibling) -> dict[str, dict[str, int]]:
    """What one deletion had in view; a malformed part counts as not seen, because merge is total."""
    seen = deletion.value.get("seen")
    if not isinstance(seen, dict):
        return {}
    return {
        name: {each: counter for each, counter in context.items() if isinstance(counter, int)}
        for name, context in seen.items()
        if isinstance(context, dict)
    }


def unseen_fields(document: Document) -> list[str]:
    """The fields with a value that no deletion present had in view."""
    union = seen_by(filter(is_deletion, document.get(LIFE).siblings))
    return [
        name
        for name in document
        if name != LIFE and not all(covers(union.get(name, {}), sibling.dot) for sibling in document.get(name).siblings)
    ]


def state_of(document: Document, rule: DeletionRule) -> State:
    """What a record is now, under its kind's rule."""
    if document.erased:
        return "erased"
    if LIFE not in document:
        return "alive"
    siblings = document.get(LIFE).siblings
    deletions = [sibling for sibling in siblings if is_deletion(sibling)]
    restored = len(deletions) < len(siblings)
    if not deletions or (restored and rule == "add_wins"):
        return "alive"
    if rule == "contest" and (restored or unseen_fields(document)):
        return "contested"
    return "deleted"


def hash_document(uid: str, document: Document, state: State, encoded: bytes | None = None) -> int:
    """The record hash: of life alone once deleted and uncontested, of the uid alone once erased, else of everything. `encoded`: the
    document's canonical bytes, where the caller has them."""
    if state == "erased":
        return hash_record(uid, b"")
    if state == "deleted":
        return hash_record(uid, document.only([LIFE]).encode())
    return hash_record(uid, document.encode() if encoded is None else encoded)
