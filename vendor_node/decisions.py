"""The vendor's decisions about registrations: by policy at once, or by a person; winning, losing, revoking."""

from shared_schema.contract.codec import format_time
from shared_schema.contract.policy import display, value_of
from shared_schema.contract.registration import is_active, round_of, status_of
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.crm.shared_records import SharedRecord, load_record, load_records
from shared_schema.sync.capture import Captured, Write
from shared_schema.sync.journal import note
from shared_schema.sync.registrations import open_shared_deal
from shared_schema.sync.station import Work
from vendor_node import duplicates

DECISIONS = ("approved", "rejected", "action required", "under review", "revoked", "won", "lost")
FROM = {
    "approved": ("submitted", "under review", "action required"),
    "rejected": ("submitted", "under review", "action required"),
    "action required": ("submitted", "under review"),
    "under review": ("submitted",),
    "revoked": ("active", "extension pending", "invited"),
    "won": ("active", "extension pending"),
    "lost": ("active", "extension pending"),
}
NEED_REASON = ("rejected", "action required", "revoked")
DAY_MS = 86_400_000


async def decide(work: Work, shared_deal_id: int, decision: str, reason: str | None = None) -> Captured:
    """A person's decision. Raises Invalid for one that does not exist or lacks its reason, WrongState for one out of turn."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    if decision not in DECISIONS:
        raise Invalid("decision", f"takes one of {', '.join(DECISIONS)}")
    if decision in NEED_REASON and not (reason or "").strip():
        raise Invalid("reason", f"may not be empty: the partner is told why it is {decision}")
    if row["status"] not in FROM[decision]:
        raise WrongState(f"a registration that is {row['status']} can not be {decision}", field="decision")
    return await write_decision(work, row["partnership"], row["uid"], decision, reason)


async def write_decision(work: Work, partnership: str, registration: str, decision: str, reason: str | None) -> Captured:
    """The decision as the vendor's own field, with the submission that it answers; an approval also says until when the deal is
    protected."""
    record = await load_record(work.tx, partnership, registration)
    value = {"decision": decision, "reason": reason, "at": work.now_ms, "round": round_of(record.document, "submission")}
    writes = [Write(registration, "decision", value)]
    if decision == "approved":
        days = (await load_policy(work.tx, partnership)).protection_days
        writes.append(Write(registration, "expires", date_of(work.now_ms + days * DAY_MS)))
    return await work.capture(partnership, registration, "registration.decided", writes)


def date_of(ms: int) -> str:
    """The UTC date of a time."""
    return format_time(ms)[:10]


async def react_decide(work: Work, partnership: str, registration: str) -> None:
    """Approve what was submitted under an automatic policy; what changed meanwhile needs no answer, and the journal says so."""
    record = (await load_records(work.tx, partnership, [registration])).get(registration)
    status = status_of(record.document) if record else "missing"
    if record is None or status != "submitted":
        await note(work, partnership, registration, "nothing to decide", f"the registration is {status}")
        return
    await duplicates.check(work, record)
    if (await load_policy(work.tx, partnership)).approval == "manual":
        await note(work, partnership, registration, "waits for a decision", "the partnership's policy asks for a person's")
        return
    await write_decision(work, partnership, registration, "approved", None)


def due(record: SharedRecord) -> frozenset[str]:
    """What a registration's state asks of the vendor: a decision when submitted, a rep when active without one, an eye on the time that
    an invitation leaves, and when it is erased that its assignments forget what they were made from."""
    if record.kind != "registration":
        return frozenset()
    if record.document.erased:
        return frozenset({"forget"})
    status = status_of(record.document)
    wanted = {"submitted": {"decide"}, "invited": {"invitation"}}.get(status, set())
    if is_active(status) and not has_rep(record):
        wanted.add("assign")
    return frozenset(wanted)


def has_rep(record: SharedRecord) -> bool:
    shown = display(record.document.get("rep"))
    return shown is not None and isinstance(shown.value, dict) and bool(shown.value.get("person"))


def requested_rep(record: SharedRecord) -> str | None:
    """The rep that the partner named, by e-mail or name."""
    named = value_of(record.document, "requested_rep")
    return named if isinstance(named, str) and named else None
