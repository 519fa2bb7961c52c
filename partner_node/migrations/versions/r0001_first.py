"""The first schema: the CRM, shared records and what is projected from them, and the runtime."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "brake_acts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("direction", sa.String(length=3), nullable=False),
        sa.Column("kind", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("act", sa.String(length=8), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("event", sa.String(length=36), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_brake_acts")),
    )
    op.create_index("ix_brake_acts_event", "brake_acts", ["event"], unique=False)
    op.create_index("ix_brake_acts_at_ms", "brake_acts", ["partnership", "direction", "passed", "at_ms"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=63), nullable=False),
        sa.Column("parent", sa.String(length=36), nullable=True),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("fields", sa.String(length=500), nullable=False),
        sa.Column("event", sa.String(length=36), nullable=True),
        sa.Column("origin", sa.String(length=5), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("listed_ms", sa.BigInteger(), nullable=True),
        sa.Column("cleaned_ms", sa.BigInteger(), nullable=True),
        sa.Column("asked", sa.String(length=36), nullable=True),
        sa.Column("peer_gone_by", sa.String(length=10), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
        sa.UniqueConstraint("partnership", "uid", "fields", name=op.f("uq_erasures_partnership")),
    )
    op.create_table(
        "trash",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=63), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trash")),
        sa.UniqueConstraint("partnership", "uid", name=op.f("uq_trash_partnership")),
    )
    op.create_index("ix_trash_deleted_ms", "trash", ["partnership", "deleted_ms"], unique=False)
    op.create_index("ix_trash_registration", "trash", ["partnership", "registration", "kind"], unique=False)
    op.create_table(
        "comments",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("note", sa.String(length=36), nullable=False),
        sa.Column("author", sa.String(length=36), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comments")),
        sa.UniqueConstraint("partnership", "uid", name=op.f("uq_comments_partnership")),
    )
    op.create_index("ix_comments_registration", "comments", ["registration"], unique=False)
    op.create_table(
        "conflicts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("field", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=63), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conflicts")),
        sa.UniqueConstraint("partnership", "uid", "field", name=op.f("uq_conflicts_partnership")),
    )
    op.create_index("ix_conflicts_registration", "conflicts", ["registration"], unique=False)
    op.create_table(
        "eligibilities",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("eligible", sa.Boolean(), nullable=True),
        sa.Column("rate", sa.String(length=32), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_eligibilities")),
        sa.UniqueConstraint("partnership", "uid", name=op.f("uq_eligibilities_partnership")),
    )
    op.create_index("ix_eligibilities_registration", "eligibilities", ["registration"], unique=False)
    op.create_table(
        "inbound_epochs",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("epoch", sa.String(length=16), nullable=False),
        sa.Column("next_sequence", sa.BigInteger(), nullable=False),
        sa.Column("gaps", sa.Text(), nullable=False),
        sa.Column("event", sa.String(length=36), nullable=True),
        sa.Column("head", sa.String(length=36), nullable=True),
        sa.Column("moved_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partnership", "epoch", name=op.f("pk_inbound_epochs")),
    )
    op.create_table(
        "inbound_positions",
        sa.Column("topic", sa.String(length=200), nullable=False),
        sa.Column("topic_id", sa.String(length=64), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic", name=op.f("pk_inbound_positions")),
    )
    op.create_table(
        "journal",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("what", sa.String(length=63), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal")),
    )
    op.create_index("ix_journal_registration", "journal", ["registration"], unique=False)
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("owner", sa.String(length=36), nullable=False),
        sa.Column("epoch", sa.String(length=16), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "members",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("person", sa.String(length=36), nullable=False),
        sa.Column("role", sa.String(length=500), nullable=True),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
        sa.UniqueConstraint("partnership", "uid", name=op.f("uq_members_partnership")),
    )
    op.create_index("ix_members_registration", "members", ["registration"], unique=False)
    op.create_table(
        "outbound_epochs",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("epoch", sa.String(length=16), nullable=False),
        sa.Column("acknowledged", sa.BigInteger(), nullable=False),
        sa.Column("explained", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("began_ms", sa.BigInteger(), nullable=False),
        sa.Column("moved_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("partnership", "epoch", name=op.f("pk_outbound_epochs")),
    )
    op.create_table(
        "restorations",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("request", sa.String(length=36), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("asked_ms", sa.BigInteger(), nullable=False),
        sa.Column("merged", sa.Boolean(), nullable=False),
        sa.Column("doubted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("partnership", name=op.f("pk_restorations")),
    )
    op.create_table(
        "statements",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("request", sa.String(length=36), nullable=False),
        sa.Column("reached", sa.Text(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("partnership", name=op.f("pk_statements")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("event", sa.String(length=36), nullable=False),
        sa.Column("answers", sa.String(length=36), nullable=True),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.String(length=16), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("published_ms", sa.BigInteger(), nullable=True),
        sa.Column("held", sa.String(length=20), nullable=True),
        sa.Column("destroys", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("event", name=op.f("uq_outbox_event")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_outbox_answers",
        "outbox",
        ["partnership", "answers"],
        unique=False,
        sqlite_where=sa.text("answers IS NOT NULL"),
        postgresql_where=sa.text("answers IS NOT NULL"),
    )
    op.create_index("ix_outbox_epoch", "outbox", ["partnership", "epoch", "sequence"], unique=False)
    op.create_index(
        "ix_outbox_pending",
        "outbox",
        ["partnership", "id"],
        unique=False,
        sqlite_where=sa.text("published_ms IS NULL AND held IS NULL"),
        postgresql_where=sa.text("published_ms IS NULL AND held IS NULL"),
    )
    op.create_index(
        "ix_outbox_held",
        "outbox",
        ["partnership", "id"],
        unique=False,
        sqlite_where=sa.text("held IS NOT NULL"),
        postgresql_where=sa.text("held IS NOT NULL"),
    )
    op.create_index("ix_outbox_registration", "outbox", ["registration"], unique=False)
    op.create_table(
        "parked",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("topic", sa.String(length=200), nullable=False),
        sa.Column("record_offset", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=36), nullable=True),
        sa.Column("waits_for", sa.String(length=36), nullable=True),
        sa.Column("reason", sa.String(length=63), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("restoring", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_parked")),
    )
    op.create_index("ix_parked_waits_for", "parked", ["partnership", "waits_for"], unique=False)
    op.create_index("ix_parked_id", "parked", ["partnership", "id"], unique=False)
    op.create_index("ix_parked_at_ms", "parked", ["partnership", "at_ms"], unique=False)
    op.create_table(
        "verifications",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("phase", sa.String(length=6), nullable=False),
        sa.Column("look", sa.String(length=16), nullable=True),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("repairs", sa.Integer(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("asked_ms", sa.BigInteger(), nullable=False),
        sa.Column("began_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("repaired", sa.Integer(), nullable=False),
        sa.Column("busy", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("partnership", name=op.f("pk_verifications")),
    )
    op.create_table(
        "discards",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partnership", "mark", name=op.f("pk_discards")),
    )
    op.create_table(
        "drifts",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("ours", sa.BigInteger(), nullable=True),
        sa.Column("theirs", sa.BigInteger(), nullable=True),
        sa.Column("look", sa.String(length=16), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("partnership", "uid", name=op.f("pk_drifts")),
    )
    op.create_table(
        "owed_states",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(length=36), nullable=True),
        sa.PrimaryKeyConstraint("partnership", "uid", name=op.f("pk_owed_states")),
    )
    op.create_index(
        "ix_owed_states_next",
        "owed_states",
        ["partnership", "depth", "uid"],
        unique=False,
        sqlite_where=sa.text("event IS NULL"),
        postgresql_where=sa.text("event IS NULL"),
    )
    op.create_index(
        "ix_owed_states_paid",
        "owed_states",
        ["partnership", "event"],
        unique=False,
        sqlite_where=sa.text("event IS NOT NULL"),
        postgresql_where=sa.text("event IS NOT NULL"),
    )
    op.create_table(
        "stops",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("forgiven", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partnership", name=op.f("pk_stops")),
    )
    op.create_table(
        "troubles",
        sa.Column("process", sa.String(length=16), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("topic", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("process", "partnership", "topic", "kind", name=op.f("pk_troubles")),
    )
    op.create_table(
        "refusals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("field", sa.String(length=63), nullable=False),
        sa.Column("event", sa.String(length=36), nullable=False),
        sa.Column("reason", sa.String(length=63), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refusals")),
        sa.UniqueConstraint("partnership", "uid", "field", name=op.f("uq_refusals_partnership")),
    )
    op.create_table(
        "partnerships",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("own_name", sa.String(length=200), nullable=False),
        sa.Column("peer_name", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("broker", sa.String(length=500), nullable=False),
        sa.Column("lead_recipient_id", sa.BigInteger(), nullable=True),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partnerships")),
    )
    op.create_table(
        "peer_outcomes",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("event", sa.String(length=36), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("field", sa.String(length=63), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("said_by", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("partnership", "event", "uid", "field", name=op.f("pk_peer_outcomes")),
    )
    op.create_index("ix_peer_outcomes_uid", "peer_outcomes", ["partnership", "uid"], unique=False)
    op.create_table(
        "peers",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("heard_ms", sa.BigInteger(), nullable=False),
        sa.Column("skew_ms", sa.BigInteger(), nullable=False),
        sa.Column("backlog", sa.BigInteger(), nullable=False),
        sa.Column("whole_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("ahead_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("ahead_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("partnership", name=op.f("pk_peers")),
    )
    op.create_table(
        "persons",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("role", sa.String(length=500), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=True),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_persons")),
        sa.UniqueConstraint("partnership", "uid", name=op.f("uq_persons_partnership")),
    )
    op.create_table(
        "pipelines",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipelines")),
        sa.UniqueConstraint("name", name=op.f("uq_pipelines_name")),
    )
    op.create_table(
        "products",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("sku", sa.String(length=500), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("quantity", sa.String(length=32), nullable=True),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_products")),
        sa.UniqueConstraint("partnership", "uid", name=op.f("uq_products_partnership")),
    )
    op.create_index("ix_products_registration", "products", ["registration"], unique=False)
    op.create_table(
        "property_history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("field", sa.String(length=63), nullable=False),
        sa.Column("incarnation", sa.String(length=18), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("physical", sa.BigInteger(), nullable=False),
        sa.Column("logical", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=36), nullable=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=7), nullable=False),
        sa.Column("event", sa.String(length=36), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_property_history")),
        sa.UniqueConstraint("partnership", "uid", "field", "incarnation", "counter", name=op.f("uq_property_history_partnership")),
    )
    op.create_table(
        "projections",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("adding", sa.Text(), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projections")),
    )
    op.create_table(
        "quotes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("number", sa.String(length=500), nullable=False),
        sa.Column("title", sa.String(length=500), nullable=True),
        sa.Column("amount", sa.String(length=32), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("status", sa.String(length=500), nullable=True),
        sa.Column("expires", sa.String(length=10), nullable=True),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quotes")),
        sa.UniqueConstraint("partnership", "uid", name=op.f("uq_quotes_partnership")),
    )
    op.create_index("ix_quotes_registration", "quotes", ["registration"], unique=False)
    op.create_table(
        "reactions",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("partnership", "registration", "kind", name=op.f("pk_reactions")),
    )
    op.create_table(
        "shared_notes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("author", sa.String(length=36), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shared_notes")),
        sa.UniqueConstraint("partnership", "uid", name=op.f("uq_shared_notes_partnership")),
    )
    op.create_index("ix_shared_notes_registration", "shared_notes", ["registration"], unique=False)
    op.create_table(
        "shared_records",
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=63), nullable=False),
        sa.Column("parent", sa.String(length=36), nullable=True),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("hash", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partnership", "uid", name=op.f("pk_shared_records"), postgresql_include=["bucket", "hash"]),
    )
    with_room = {"fillfactor": 70}  # uids grow with time, so pages are full when the versions of later writes come
    op.create_index("ix_shared_records_registration", "shared_records", ["registration", "kind"], unique=False, postgresql_with=with_room)
    if op.get_bind().dialect.name == "sqlite":
        op.create_index("ix_shared_records_digest", "shared_records", ["partnership", "bucket", "hash"], unique=False)
    else:
        op.execute(f"ALTER INDEX pk_shared_records SET (fillfactor = {with_room['fillfactor']})")
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("role", sa.String(length=7), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("uid", name=op.f("uq_users_uid")),
    )
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_tokens_digest")),
    )
    op.create_table(
        "companies",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("domain", sa.String(length=253), nullable=True),
        sa.Column("country", sa.String(length=500), nullable=True),
        sa.Column("industry", sa.String(length=500), nullable=True),
        sa.Column("owner_id", sa.BigInteger(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("merged_into", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_companies")),
    )
    op.create_index("ix_companies_domain", "companies", ["domain"], unique=False)
    op.create_table(
        "stages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("pipeline_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=4), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["pipelines.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stages")),
        sa.UniqueConstraint("pipeline_id", "name", name=op.f("uq_stages_pipeline_id")),
    )
    op.create_table(
        "contacts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("phone", sa.String(length=500), nullable=True),
        sa.Column("company_id", sa.BigInteger(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("merged_into", sa.BigInteger(), nullable=True),
        sa.Column("erased_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["company_id"],
            ["companies.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contacts")),
    )
    op.create_index("ix_contacts_company_id", "contacts", ["company_id"], unique=False)
    op.create_index("ix_contacts_email", "contacts", ["email"], unique=False)
    op.create_table(
        "deals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("pipeline_id", sa.BigInteger(), nullable=True),
        sa.Column("stage_id", sa.BigInteger(), nullable=True),
        sa.Column("amount", sa.String(length=32), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("close_date", sa.String(length=10), nullable=True),
        sa.Column("next_step", sa.String(length=500), nullable=True),
        sa.Column("owner_id", sa.BigInteger(), nullable=True),
        sa.Column("company_id", sa.BigInteger(), nullable=True),
        sa.Column("properties", sa.Text(), server_default="{}", nullable=False),
        sa.Column("number_of_deal_registrations", sa.Integer(), server_default="0", nullable=False),
        sa.Column("number_of_active_deal_registrations", sa.Integer(), server_default="0", nullable=False),
        sa.Column("is_active_shared_deal", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("open_registrations", sa.Integer(), server_default="0", nullable=False),
        sa.Column("stand_in", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.Column("merged_into", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["company_id"],
            ["companies.id"],
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["users.id"],
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["pipelines.id"],
        ),
        sa.ForeignKeyConstraint(
            ["stage_id"],
            ["stages.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deals")),
    )
    op.create_index("ix_deals_active_registrations", "deals", ["number_of_active_deal_registrations"], unique=False)
    op.create_index("ix_deals_company_id", "deals", ["company_id"], unique=False)
    op.create_index(
        "ix_deals_merged_into",
        "deals",
        ["merged_into"],
        unique=False,
        sqlite_where=sa.text("merged_into IS NOT NULL"),
        postgresql_where=sa.text("merged_into IS NOT NULL"),
    )
    op.create_table(
        "deal_contacts",
        sa.Column("deal_id", sa.BigInteger(), nullable=False),
        sa.Column("contact_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["contact_id"],
            ["contacts.id"],
        ),
        sa.ForeignKeyConstraint(
            ["deal_id"],
            ["deals.id"],
        ),
        sa.PrimaryKeyConstraint("deal_id", "contact_id", name=op.f("pk_deal_contacts")),
    )
    op.create_index("ix_deal_contacts_contact_id", "deal_contacts", ["contact_id"], unique=False)
    op.create_table(
        "deal_history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deal_id", sa.BigInteger(), nullable=False),
        sa.Column("property", sa.String(length=63), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deal_id"],
            ["deals.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deal_history")),
    )
    op.create_index("ix_deal_history_deal_id", "deal_history", ["deal_id"], unique=False)
    op.create_table(
        "deal_views",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=True),
        sa.Column("conditions", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_deal_views_owner_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deal_views")),
    )
    op.create_table(
        "private_notes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deal_id", sa.BigInteger(), nullable=False),
        sa.Column("author_id", sa.BigInteger(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["author_id"],
            ["users.id"],
        ),
        sa.ForeignKeyConstraint(
            ["deal_id"],
            ["deals.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_private_notes")),
    )
    op.create_index("ix_private_notes_deal_id", "private_notes", ["deal_id"], unique=False)
    op.create_table(
        "shared_deals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("partnership", sa.String(length=63), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("registration", sa.String(length=36), nullable=True),
        sa.Column("deal_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("domain", sa.String(length=253), nullable=True),
        sa.Column("contact_email", sa.String(length=320), nullable=True),
        sa.Column("initiated_by", sa.String(length=7), nullable=True),
        sa.Column("rep_person", sa.String(length=36), nullable=True),
        sa.Column("expires", sa.String(length=10), nullable=True),
        sa.Column("left_here", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("side", sa.String(length=7), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deal_id"],
            ["deals.id"],
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shared_deals")),
        sa.UniqueConstraint("partnership", "uid", name=op.f("uq_shared_deals_partnership")),
    )
    op.create_index("ix_shared_deals_contact_email", "shared_deals", ["contact_email"], unique=False)
    op.create_index("ix_shared_deals_deal_id", "shared_deals", ["deal_id"], unique=False)
    op.create_index("ix_shared_deals_domain", "shared_deals", ["domain"], unique=False)
    op.create_index("ix_shared_deals_status", "shared_deals", ["partnership", "status"], unique=False)
    op.create_index("ix_shared_deals_state", "shared_deals", ["partnership", "state"], unique=False)
    op.create_index("ix_shared_deals_rep_person", "shared_deals", ["rep_person", "status"], unique=False)


def downgrade() -> None:
    for table in [
        "brake_acts",
        "erasures",
        "trash",
        "shared_deals",
        "deal_views",
        "private_notes",
        "deal_history",
        "deal_contacts",
        "deals",
        "contacts",
        "stages",
        "companies",
        "api_tokens",
        "users",
        "shared_records",
        "shared_notes",
        "reactions",
        "quotes",
        "property_history",
        "products",
        "pipelines",
        "persons",
        "peers",
        "projections",
        "peer_outcomes",
        "partnerships",
        "verifications",
        "drifts",
        "refusals",
        "troubles",
        "stops",
        "owed_states",
        "parked",
        "outbox",
        "outbound_epochs",
        "restorations",
        "statements",
        "members",
        "leases",
        "journal",
        "inbound_positions",
        "inbound_epochs",
        "eligibilities",
        "conflicts",
        "comments",
    ]:
        op.drop_table(table)
