"""The registration's lifecycle: its status is nobody's to write, a pure function of what each side wrote in its own fields."""

from typing import Any

from shared_schema.contract.codec import RecordChange
from shared_schema.contract.documents import Document
from shared_schema.contract.policy import value_of

OPEN = frozenset({"submitted", "under review", "action required", "active", "extension pending", "invited"})
COUNTED_ACTIVE = frozenset({"active", "extension pending"})
KEPT_WHEN_UNSHARED = frozenset({"unshared", "partner_left", "vendor_left"})
DECISIONS = ("approved", "rejected", "action required", "under review", "revoked", "won", "lost", "expired", "invitation expired")


def status_of(document: Document) -> str:
    """draft, submitted, under review, active, action required, rejected, extension pending, invited, declined, invitation expired,
    won, lost, expired, withdrawn, revoked, unshared or erased: the same on both sides by construction.

    The partner's withdrawal and the vendor's revocation end it whatever else is concurrent; then the vendor's decision counts. A person's
    answer to an invitation stands even where its time ran out meanwhile: a timer does not overrule a person.
    """
    if document.erased or document.get("unshared").siblings:
        return "erased" if document.erased else "unshared"
    decision = part(document, "decision", "decision")
    if document.get("withdrawal").siblings:
        return "withdrawn"
    if decision == "action required" and round_of(document, "submission") > round_of(document, "decision"):
        decision = None  # the partner answered, and waits again
    if decision in ("revoked", "won", "lost", "expired", "rejected", "action required", "under review"):
        return str(decision)
    if document.get("invitation").siblings:  # only the vendor can write one; `initiated_by` is whatever its maker says
        return invited_status(document, decision)
    if decision == "approved":
        return "extension pending" if extension_waits(document) else "active"
    return "submitted" if document.get("submission").siblings else "draft"


def invited_status(document: Document, decision: str | None) -> str:
    """The vendor-initiated course: invited, then as the partner answers."""
    answer = part(document, "answer", "answer")
    if answer == "accepted":
        return "extension pending" if extension_waits(document) else "active"
    if answer == "declined":
        return "declined"
    return "invitation expired" if decision == "invitation expired" else "invited"


def extension_waits(document: Document) -> bool:
    """Whether the partner asked for an extension that the vendor's expiry date has not answered yet."""
    asked = part(document, "extension", "until")
    return asked is not None and str(value_of(document, "expires") or "") < str(asked) and not part(document, "decision", "extension")


def round_of(document: Document, field: str) -> int:
    """Which submission a submission is, or which one a decision answers; the first where nothing is said."""
    told = part(document, field, "round")
    return told if isinstance(told, int) else 1


def part(document: Document, field: str, name: str) -> Any:
    value = value_of(document, field)
    return value.get(name) if isinstance(value, dict) else None


def is_open(status: str) -> bool:
    return status in OPEN


def is_active(status: str) -> bool:
    return status in COUNTED_ACTIVE


def outlasts_sharing(change: RecordChange) -> bool:
    """Whether a change within a registration counts although its sharing has stopped: erasing, leaving and stopping do."""
    if change.erased or change.erased_fields:
        return True
    return change.kind == "registration" and set(change.fields) <= KEPT_WHEN_UNSHARED
