"""The columns of shared records: written only by the projection, a function of their documents, so they can be rebuilt at any time.

Each has the id that people see, local to this node, beside the uid that both sides know.
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, String, Table, Text, UniqueConstraint, false

from shared_schema.crm.tables import Identity, metadata


def identified() -> tuple[Column[int], Column[str], Column[str], Column[str]]:
    """What every projected record begins with."""
    return (
        Column("id", Identity, primary_key=True),
        Column("partnership", String(63), nullable=False),
        Column("uid", String(36), nullable=False),
        Column("registration", String(36)),
    )


def lived() -> tuple[Column[str], Column[str], Column[int]]:
    """Whose it is, whether it lives, and when this node first had it (UTC ms)."""
    return (
        Column("side", String(7), nullable=False),
        Column("state", String(9), nullable=False),
        Column("created_ms", BigInteger, nullable=False),
    )


def one_per_uid() -> UniqueConstraint:
    return UniqueConstraint("partnership", "uid")


shared_deals = Table(
    "shared_deals",
    metadata,
    *identified(),
    Column("deal_id", BigInteger, ForeignKey("deals.id"), nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", Text),
    Column("domain", String(253)),
    Column("contact_email", String(320)),
    Column("initiated_by", String(7)),
    Column("rep_person", String(36)),
    Column("expires", String(10)),
    Column("left_here", Boolean, nullable=False, server_default=false()),
    *lived(),
    one_per_uid(),
    Index("ix_shared_deals_deal_id", "deal_id"),
    Index("ix_shared_deals_status", "partnership", "status"),
    Index("ix_shared_deals_state", "partnership", "state"),
    Index("ix_shared_deals_domain", "domain"),
    Index("ix_shared_deals_contact_email", "contact_email"),
    Index("ix_shared_deals_rep_person", "rep_person", "status"),
)

shared_notes = Table(
    "shared_notes",
    metadata,
    *identified(),
    Column("author", String(36)),
    Column("body", Text, nullable=False),
    *lived(),
    one_per_uid(),
    Index("ix_shared_notes_registration", "registration"),
)

comments = Table(
    "comments",
    metadata,
    *identified(),
    Column("note", String(36), nullable=False),
    Column("author", String(36)),
    Column("body", Text, nullable=False),
    *lived(),
    one_per_uid(),
    Index("ix_comments_registration", "registration"),
)

products = Table(
    "products",
    metadata,
    *identified(),
    Column("sku", String(500), nullable=False),
    Column("name", String(500), nullable=False),
    Column("quantity", String(32)),
    *lived(),
    one_per_uid(),
    Index("ix_products_registration", "registration"),
)

quotes = Table(
    "quotes",
    metadata,
    *identified(),
    Column("number", String(500), nullable=False),
    Column("title", String(500)),
    Column("amount", String(32)),
    Column("currency", String(3)),
    Column("status", String(500)),
    Column("expires", String(10)),
    *lived(),
    one_per_uid(),
    Index("ix_quotes_registration", "registration"),
)

eligibilities = Table(
    "eligibilities",
    metadata,
    *identified(),
    Column("eligible", Boolean),
    Column("rate", String(32)),
    Column("reason", String(500)),
    *lived(),
    one_per_uid(),
    Index("ix_eligibilities_registration", "registration"),
)

members = Table(
    "members",
    metadata,
    *identified(),
    Column("person", String(36), nullable=False),
    Column("role", String(500)),
    *lived(),
    one_per_uid(),
    Index("ix_members_registration", "registration"),
)

persons = Table(
    "persons",
    metadata,
    *identified(),
    Column("name", String(500), nullable=False),
    Column("role", String(500)),
    Column("active", Boolean),
    *lived(),
    one_per_uid(),
)

trash = Table(
    "trash",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("partnership", String(63), nullable=False),
    Column("uid", String(36), nullable=False),
    Column("kind", String(63), nullable=False),
    Column("registration", String(36)),
    Column("deleted_ms", BigInteger, nullable=False),
    UniqueConstraint("partnership", "uid"),
    Index("ix_trash_deleted_ms", "partnership", "deleted_ms"),
    Index("ix_trash_registration", "partnership", "registration", "kind"),
)

conflicts = Table(
    "conflicts",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("partnership", String(63), nullable=False),
    Column("uid", String(36), nullable=False),
    Column("field", String(63), nullable=False),
    Column("kind", String(63), nullable=False),
    Column("registration", String(36)),
    Column("opened_ms", BigInteger, nullable=False),
    UniqueConstraint("partnership", "uid", "field"),
    Index("ix_conflicts_registration", "registration"),
)
