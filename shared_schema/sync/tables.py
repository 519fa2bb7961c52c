"""The runtime's tables: the outbox, what each stream has reached, leases, what is parked, discarded, refused and stopped, states that are
owed, restorations, verifications and drift, reactions to run, what the brake counts, what is erased, a journal for people, and when each
peer was heard."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint, and_, false

from shared_schema.crm.tables import Identity, metadata

outbox = Table(
    "outbox",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("partnership", String(63), nullable=False),
    Column("registration", String(36)),
    Column("event", String(36), nullable=False, unique=True),
    Column("answers", String(36)),
    Column("payload", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("epoch", String(16)),
    Column("sequence", BigInteger),
    Column("published_ms", BigInteger),
    Column("held", String(20)),  # why it waits unsent, if it does; what is held was never numbered
    Column("destroys", Boolean, nullable=False, server_default=false()),  # a command's deletion: it waits while the store is being restored
    sqlite_autoincrement=True,  # an id that is in flight may never come to stand for another row
)
_pending = and_(outbox.c.published_ms.is_(None), outbox.c.held.is_(None))
Index("ix_outbox_pending", outbox.c.partnership, outbox.c.id, sqlite_where=_pending, postgresql_where=_pending)
Index(
    "ix_outbox_held",
    outbox.c.partnership,
    outbox.c.id,
    sqlite_where=outbox.c.held.is_not(None),
    postgresql_where=outbox.c.held.is_not(None),
)
Index("ix_outbox_epoch", outbox.c.partnership, outbox.c.epoch, outbox.c.sequence)
Index("ix_outbox_registration", outbox.c.registration)
Index(
    "ix_outbox_answers",
    outbox.c.partnership,
    outbox.c.answers,
    sqlite_where=outbox.c.answers.is_not(None),
    postgresql_where=outbox.c.answers.is_not(None),
)

outbound_epochs = Table(
    "outbound_epochs",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("acknowledged", BigInteger, nullable=False),
    Column("explained", BigInteger, nullable=False, server_default="0"),  # an acknowledgement up to here is no sign of going back
    Column("began_ms", BigInteger, nullable=False),
    Column("moved_ms", BigInteger, nullable=False, server_default="0"),  # when the peer last acknowledged another number of it
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(120), primary_key=True),
    Column("owner", String(36), nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)

inbound_positions = Table(
    "inbound_positions",
    metadata,
    Column("topic", String(200), primary_key=True),
    Column("topic_id", String(64), nullable=False),
    Column("next_offset", BigInteger, nullable=False),
)

inbound_epochs = Table(
    "inbound_epochs",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("next_sequence", BigInteger, nullable=False),
    Column("gaps", Text, nullable=False),
    Column("event", String(36)),
    Column("head", String(36)),
    Column("moved_ms", BigInteger, nullable=False),
)

restorations = Table(
    "restorations",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("request", String(36), nullable=False),
    Column("why", Text, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("asked_ms", BigInteger, nullable=False),
    Column("merged", Boolean, nullable=False),
    Column("doubted", Boolean, nullable=False),
)

statements = Table(
    "statements",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("request", String(36), nullable=False),
    Column("reached", Text, nullable=False),
    Column("done", Boolean, nullable=False),
)

parked = Table(
    "parked",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("partnership", String(63), nullable=False),
    Column("topic", String(200), nullable=False),
    Column("record_offset", BigInteger, nullable=False),
    Column("event", String(36)),
    Column("waits_for", String(36)),
    Column("reason", String(63), nullable=False),
    Column("detail", Text, nullable=False),
    Column("headers", Text, nullable=False),
    Column("payload", LargeBinary),
    Column("at_ms", BigInteger, nullable=False),
    Column("restoring", Boolean, nullable=False, server_default=false()),  # it came while we were: it may bring our own
    Index("ix_parked_waits_for", "partnership", "waits_for"),
    Index("ix_parked_id", "partnership", "id"),
    Index("ix_parked_at_ms", "partnership", "at_ms"),
)

discards = Table(
    "discards",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("mark", String(64), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),  # when it was discarded, or came last
)

brake_acts = Table(
    "brake_acts",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("partnership", String(63), nullable=False),
    Column("direction", String(3), nullable=False),
    Column("kind", String(63), nullable=False),
    Column("uid", String(36), nullable=False),
    Column("act", String(8), nullable=False),
    Column("registration", String(36)),
    Column("event", String(36), nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_brake_acts_at_ms", "partnership", "direction", "passed", "at_ms"),
    Index("ix_brake_acts_event", "event"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("partnership", String(63), nullable=False),
    Column("uid", String(36), nullable=False),
    Column("kind", String(63), nullable=False),
    Column("parent", String(36)),
    Column("registration", String(36)),
    Column("side", String(7), nullable=False),
    Column("fields", String(500), nullable=False),
    Column("event", String(36)),
    Column("origin", String(5), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("listed_ms", BigInteger),
    Column("cleaned_ms", BigInteger),
    Column("asked", String(36)),
    Column("peer_gone_by", String(10)),
    UniqueConstraint("partnership", "uid", "fields"),
)

verifications = Table(
    "verifications",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("phase", String(6), nullable=False),
    Column("look", String(16)),
    Column("part", Integer, nullable=False),
    Column("looks", Integer, nullable=False),
    Column("repairs", Integer, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("asked_ms", BigInteger, nullable=False),
    Column("began_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("repaired", Integer, nullable=False),
    Column("busy", Integer, nullable=False),
)

drifts = Table(
    "drifts",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("uid", String(36), primary_key=True),
    Column("ours", BigInteger),
    Column("theirs", BigInteger),
    Column("look", String(16), nullable=False),
    Column("looks", Integer, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("fields", Text),
)

owed_states = Table(
    "owed_states",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("uid", String(36), primary_key=True),
    Column("depth", Integer, nullable=False),
    Column("event", String(36)),
)
_unpaid, _paid = owed_states.c.event.is_(None), owed_states.c.event.is_not(None)
Index(
    "ix_owed_states_next",
    owed_states.c.partnership,
    owed_states.c.depth,
    owed_states.c.uid,
    sqlite_where=_unpaid,
    postgresql_where=_unpaid,
)
Index("ix_owed_states_paid", owed_states.c.partnership, owed_states.c.event, sqlite_where=_paid, postgresql_where=_paid)

stops = Table(
    "stops",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("forgiven", BigInteger, nullable=False),
    Column("why", Text),
    Column("since_ms", BigInteger, nullable=False),
)

troubles = Table(
    "troubles",
    metadata,
    Column("process", String(16), primary_key=True),
    Column("partnership", String(63), primary_key=True),
    Column("topic", String(200), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("why", Text, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("partnership", String(63), nullable=False),
    Column("uid", String(36), nullable=False),
    Column("field", String(63), nullable=False),
    Column("event", String(36), nullable=False),
    Column("reason", String(63), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    UniqueConstraint("partnership", "uid", "field"),
)

peer_outcomes = Table(
    "peer_outcomes",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("event", String(36), primary_key=True),
    Column("uid", String(36), primary_key=True),
    Column("field", String(63), primary_key=True),
    Column("outcome", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("said_by", Text, nullable=False, server_default=""),  # the ids of the last of the peer's events that said it, in their order
    Index("ix_peer_outcomes_uid", "partnership", "uid"),
)

reactions = Table(
    "reactions",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("registration", String(36), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("detail", Text),
)

journal = Table(
    "journal",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("partnership", String(63), nullable=False),
    Column("registration", String(36)),
    Column("what", String(63), nullable=False),
    Column("detail", Text, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_journal_registration", "registration"),
)

projections = Table(
    "projections",  # one row
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("fields", Text, nullable=False),
    Column("adding", Text, nullable=False),
    Column("partnership", String(63), nullable=False),
    Column("uid", String(36), nullable=False),
)

peers = Table(
    "peers",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("heard_ms", BigInteger, nullable=False),
    Column("skew_ms", BigInteger, nullable=False),
    Column("backlog", BigInteger, nullable=False),
    Column("whole_ms", BigInteger, nullable=False, server_default="0"),  # all that the peer had to say by then was said
    Column("ahead_ms", BigInteger, nullable=False, server_default="0"),  # by how much the last stamp that was far ahead was so
    Column("ahead_at_ms", BigInteger, nullable=False, server_default="0"),  # when that came; 0: none ever did
)
