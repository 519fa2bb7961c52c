"""The wire, as pydantic models: CloudEvents attributes, the records an event carries, and the control messages.

These models define the format and its JSON Schema. The hot path decodes with `codec`, held to the same golden samples. Attributes and
enum values of a newer minor version survive a round trip.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared_schema.contract.digests import BUCKETS
from shared_schema.contract.identifiers import EPOCH_PATTERN, NAME_PATTERN, UID_PATTERN
from shared_schema.contract.registers import COUNTER_MAX

VERSION = "1.0"
SCHEMA_PREFIX = "urn:dealbridge:event:"
DATASCHEMA = SCHEMA_PREFIX + VERSION
EVENT_BYTES_MAX = 900 * 1024
LABEL_MAX = 1_000
SHOWN_MAX = 200

EVENT_TYPES: dict[str, str] = {
    "deal.shared": "A registration with its deal, company, contact and first records.",
    "deal.changed": "Shared fields of a deal.",
    "deal.deleted": "A deletion of the deal for both sides, with what its author had in view.",
    "deal.restored": "A restore that had the deletion in view.",
    "deal.unshared": "Sharing stopped; both keep their copies.",
    "deal.merged": "One side made two of its deals one; the other is offered the same.",
    "company.merged": "One side made the companies of two registrations one; the other is offered the same.",
    "contact.merged": "One side made the contacts of two registrations one; the other is offered the same.",
    "deal.left": "One side deleted its own copy only.",
    "registration.submitted": "The partner submitted, or submitted again.",
    "registration.invited": "The vendor brings a partner into a deal: a registration with its deal, company, contact and intro note.",
    "registration.answered": "The partner accepts or declines an invitation.",
    "registration.checked": "The vendor knows the customer already; the partner hears no more than that.",
    "registration.decided": "The vendor's decision.",
    "registration.withdrawn": "The partner's withdrawal.",
    "assignment.made": "The vendor's rep, assigned or reassigned.",
    "note.added": "A shared note.",
    "note.edited": "Its author's edit.",
    "note.deleted": "Its author's deletion.",
    "note.restored": "Its restore.",
    "comment.added": "A comment on a shared note.",
    "comment.edited": "Its author's edit.",
    "comment.deleted": "Its author's deletion.",
    "comment.restored": "Its restore.",
    "products.changed": "Product lines added, changed or removed.",
    "quote.changed": "A quote of the vendor's.",
    "eligibility.changed": "Compensation eligibility, the vendor's.",
    "team.changed": "One side's members of the deal team.",
    "person.changed": "Name, role or activity of a person who acts.",
    "policy.changed": "The partnership's policy, the vendor's.",
    "conflict.settled": "A person's choice between siblings.",
    "record.erased": "Records, or fields of one, erased for ever on both sides; what hangs below a record goes with it.",
    "record.restated": "Whole states: repair, first load, a peer that went back.",
    "outcome.reported": "What became of the peer's event when that is not simply applied.",
}
CONTROL_TYPES: dict[str, str] = {
    "sync.acknowledged": "Per epoch how far the receiver has applied; cumulative.",
    "sync.heartbeat": "The last number of every epoch with unacknowledged rows, and of the newest others the last acknowledged.",
    "sync.resend": "Numbers that are missing here.",
    "sync.void": "Numbers of an ended epoch that no row bears.",
    "sync.digest": "A look: the sums of the sender's record hashes, per bucket.",
    "sync.hashes": "The answer: the records of the buckets that differ, with their hashes.",
    "sync.repair": "A request for the states of records that differ.",
    "sync.inspect": "A request to show records that differ, for people to see; nothing is merged.",
    "sync.shown": "The answer: what the records hold there.",
    "sync.restore": "The sender's store went back: it asks for the state of every record of the partnership.",
    "sync.restated": "All of them are on their way to whoever asked, and acknowledged: up to which number of which epoch.",
}

Uid = Annotated[str, Field(pattern=UID_PATTERN)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Label = Annotated[str, Field(max_length=LABEL_MAX)]
Epoch = Annotated[str, Field(pattern=EPOCH_PATTERN)]
Number = Annotated[int, Field(ge=0, le=COUNTER_MAX)]
Bucket = Annotated[int, Field(ge=0, lt=BUCKETS)]
Hash = Annotated[int, Field(ge=-(2**63), lt=2**63)]
StampPair = tuple[Number, Number]
Ranges = list[tuple[Number, Number]]


class Wire(BaseModel):
    """Frozen; what a newer minor version adds is kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class SiblingModel(Wire):
    """A value that nobody who had it in view has overwritten."""

    dot: tuple[str, int]
    stamp: StampPair
    actor: str | None
    value: Any


class RegisterModel(Wire):
    """A field's whole register, never a delta. What is out of range in it is refused at the door, for this field alone."""

    context: dict[str, int]
    siblings: list[SiblingModel]


class RecordModel(Wire):
    """The changed fields of one shared record, with what identifies it for ever: kind, parent and the side that made it. `erased`: its
    content is gone for ever, and that of all records below it; `erased_fields`: that of these fields."""

    uid: Uid
    kind: Name
    parent: Uid | None
    registration: Uid | None
    side: Literal["partner", "vendor"]
    fields: dict[Name, RegisterModel]
    erased: bool | None = None
    erased_fields: list[Name] = []


class OutcomeModel(Wire):
    """What became of one event, or of one field of it. `event` is the id of the event that is answered."""

    event: Uid
    outcome: Literal["applied", "conflict", "ignored", "parked", "refused"] | Label
    reason: Label
    uid: Uid | None = None
    field: Name | None = None


class EventData(Wire):
    records: list[RecordModel] = []
    outcomes: list[OutcomeModel] = []


class Envelope(Wire):
    """CloudEvents 1.0 attributes and Dealbridge's own; epoch and sequence travel in the Kafka headers."""

    specversion: Literal["1.0"] = "1.0"
    id: Uid
    source: Label
    type: Label
    subject: Label
    time: Label
    dataschema: Label = DATASCHEMA
    partnership: Label
    registration: Uid | None
    stamp: StampPair
    causation: Uid | None = None
    actor: Uid | None = None
    keyid: Label | None = None
    data: EventData


class EpochAcknowledgement(Wire):
    """`watermark`: the highest number below which nothing is missing; `event`: the id of the event that brought it there."""

    watermark: Number
    gaps: Ranges = []
    event: Uid | None = None


class Acknowledgement(Wire):
    """`withheld`: events whose outcome is still on its way; they are not applied, whatever the watermark says."""

    type: Literal["sync.acknowledged"] = "sync.acknowledged"
    partnership: Label
    sent_ms: Number
    epochs: dict[Epoch, EpochAcknowledgement]
    withheld: list[Uid] = []


class Heartbeat(Wire):
    """The last number of every epoch with unacknowledged rows, and of the newest others the last acknowledged: a lost tail shows although
    nothing follows it, and so does that the receiver's store went back."""

    type: Literal["sync.heartbeat"] = "sync.heartbeat"
    partnership: Label
    sent_ms: Number
    epochs: dict[Epoch, Number]
    backlog: Number = 0


class Resend(Wire):
    """Inclusive ranges of missing numbers per epoch."""

    type: Literal["sync.resend"] = "sync.resend"
    partnership: Label
    sent_ms: Number
    epochs: dict[Epoch, Ranges]


class Void(Wire):
    """Inclusive ranges of numbers that no row bears, of epochs that are over."""

    type: Literal["sync.void"] = "sync.void"
    partnership: Label
    sent_ms: Number
    epochs: dict[Epoch, Ranges]


class Digest(Wire):
    """A look: 4,096 sums of record hashes, 64 bits each, base64."""

    type: Literal["sync.digest"] = "sync.digest"
    partnership: Label
    sent_ms: Number
    look: Epoch
    sums: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43691}=$")]


class Hashes(Wire):
    """One part of the answer to a look: the buckets that it is about, and of their records uid, hash, and whether something of it is still
    on its way from the answering side. `complete`: no bucket that differs was left out."""

    type: Literal["sync.hashes"] = "sync.hashes"
    partnership: Label
    sent_ms: Number
    look: Epoch
    part: Number
    parts: Number
    complete: bool
    buckets: Annotated[list[Bucket], Field(max_length=BUCKETS)]
    records: list[tuple[Uid, Hash, bool]]


class Repair(Wire):
    """The records of which the sender wants the receiver's states."""

    type: Literal["sync.repair"] = "sync.repair"
    partnership: Label
    sent_ms: Number
    look: Epoch
    uids: Annotated[list[Uid], Field(max_length=10_000)]


class Inspect(Wire):
    """The records that differ and that the sender wants to be shown."""

    type: Literal["sync.inspect"] = "sync.inspect"
    partnership: Label
    sent_ms: Number
    look: Epoch
    uids: Annotated[list[Uid], Field(max_length=SHOWN_MAX)]


class ShownRecord(Wire):
    """Per field, the values of its siblings."""

    uid: Uid
    fields: dict[Name, list[Any]]


class Shown(Wire):
    """One part of the answer; a record that is not there is in none."""

    type: Literal["sync.shown"] = "sync.shown"
    partnership: Label
    sent_ms: Number
    look: Epoch
    part: Number
    parts: Number
    records: Annotated[list[ShownRecord], Field(max_length=SHOWN_MAX)]


class Restore(Wire):
    """Sent again and again until `Restated` names the same request."""

    type: Literal["sync.restore"] = "sync.restore"
    partnership: Label
    sent_ms: Number
    request: Uid


class Restated(Wire):
    """The states went under these numbers: whoever has all of them up to the last of each epoch has the states."""

    type: Literal["sync.restated"] = "sync.restated"
    partnership: Label
    sent_ms: Number
    request: Uid
    epochs: dict[Epoch, Number]


Control = Acknowledgement | Heartbeat | Resend | Void | Digest | Hashes | Repair | Inspect | Shown | Restore | Restated
CONTROLS: dict[str, type[Control]] = {
    "sync.acknowledged": Acknowledgement,
    "sync.heartbeat": Heartbeat,
    "sync.resend": Resend,
    "sync.void": Void,
    "sync.digest": Digest,
    "sync.hashes": Hashes,
    "sync.repair": Repair,
    "sync.inspect": Inspect,
    "sync.shown": Shown,
    "sync.restore": Restore,
    "sync.restated": Restated,
}
