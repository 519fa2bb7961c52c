"""The store's tables: shared records as documents of registers, the property history, and the CRM that is the node's own.

Private notes have no uid: nothing can name them to the outside.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"}
)
Identity = BigInteger().with_variant(Integer, "sqlite")

shared_records = Table(
    "shared_records",
    metadata,
    Column("partnership", String(63), primary_key=True),
    Column("uid", String(36), primary_key=True),
    Column("kind", String(63), nullable=False),
    Column("parent", String(36)),
    Column("registration", String(36)),
    Column("side", String(7), nullable=False),
    Column("document", Text, nullable=False),
    Column("state", String(9), nullable=False),
    Column("bucket", Integer, nullable=False),
    Column("hash", BigInteger, nullable=False),
    # Digests are read from an index alone. PostgreSQL's key can carry what they need; SQLite needs an index of its own.
    PrimaryKeyConstraint("partnership", "uid", postgresql_include=["bucket", "hash"]),
    Index("ix_shared_records_digest", "partnership", "bucket", "hash").ddl_if(dialect="sqlite"),
    Index("ix_shared_records_registration", "registration", "kind", postgresql_with={"fillfactor": 70}),
)

property_history = Table(
    "property_history",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("partnership", String(63), nullable=False),
    Column("uid", String(36), nullable=False),
    Column("field", String(63), nullable=False),
    Column("incarnation", String(18), nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("physical", BigInteger, nullable=False),
    Column("logical", BigInteger, nullable=False),
    Column("actor", String(36)),
    Column("value", Text, nullable=False),
    Column("source", String(7), nullable=False),
    Column("event", String(36), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    UniqueConstraint("partnership", "uid", "field", "incarnation", "counter"),
)

SYNCED = ("invited", "active")  # a partnership with another status is shut: nothing is sent or read
ENDED = "terminated"  # and with this one for good
partnerships = Table(
    "partnerships",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("own_name", String(200), nullable=False),
    Column("peer_name", String(200), nullable=False),
    Column("status", String(10), nullable=False),
    Column("broker", String(500), nullable=False),
    Column("lead_recipient_id", BigInteger),
    Column("terms", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("uid", String(36), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("email", String(320), nullable=False, unique=True),
    Column("role", String(7), nullable=False),
    Column("active", Boolean, nullable=False),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("user_id", BigInteger, ForeignKey("users.id"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)

companies = Table(
    "companies",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("name", String(500), nullable=False),
    Column("domain", String(253)),
    Column("country", String(500)),
    Column("industry", String(500)),
    Column("owner_id", BigInteger, ForeignKey("users.id")),
    Column("created_ms", BigInteger, nullable=False),
    Column("merged_into", BigInteger),
    Index("ix_companies_domain", "domain"),
)

contacts = Table(
    "contacts",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("name", String(500), nullable=False),
    Column("email", String(320)),
    Column("phone", String(500)),
    Column("company_id", BigInteger, ForeignKey("companies.id")),
    Column("created_ms", BigInteger, nullable=False),
    Column("merged_into", BigInteger),
    Column("erased_ms", BigInteger),
    Index("ix_contacts_email", "email"),
    Index("ix_contacts_company_id", "company_id"),
)

pipelines = Table(
    "pipelines",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("position", Integer, nullable=False),
)

stages = Table(
    "stages",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("pipeline_id", BigInteger, ForeignKey("pipelines.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("position", Integer, nullable=False),
    Column("outcome", String(4), nullable=False),
    UniqueConstraint("pipeline_id", "name"),
)

deals = Table(
    "deals",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("name", String(500), nullable=False),
    Column("pipeline_id", BigInteger, ForeignKey("pipelines.id")),
    Column("stage_id", BigInteger, ForeignKey("stages.id")),
    Column("amount", String(32)),
    Column("currency", String(3)),
    Column("close_date", String(10)),
    Column("next_step", String(500)),
    Column("owner_id", BigInteger, ForeignKey("users.id")),
    Column("company_id", BigInteger, ForeignKey("companies.id")),
    Column("properties", Text, nullable=False, server_default="{}"),
    Column("number_of_deal_registrations", Integer, nullable=False, server_default="0"),
    Column("number_of_active_deal_registrations", Integer, nullable=False, server_default="0"),
    Column("is_active_shared_deal", Boolean, nullable=False, server_default=false()),
    Column("open_registrations", Integer, nullable=False, server_default="0"),
    Column("stand_in", Boolean, nullable=False, server_default=false()),
    Column("created_ms", BigInteger, nullable=False),
    Column("deleted_ms", BigInteger),
    Column("merged_into", BigInteger),
    Index("ix_deals_company_id", "company_id"),
    Index("ix_deals_active_registrations", "number_of_active_deal_registrations"),
)
_merged = deals.c.merged_into.is_not(None)
Index("ix_deals_merged_into", deals.c.merged_into, sqlite_where=_merged, postgresql_where=_merged)

deal_contacts = Table(
    "deal_contacts",
    metadata,
    Column("deal_id", BigInteger, ForeignKey("deals.id"), primary_key=True),
    Column("contact_id", BigInteger, ForeignKey("contacts.id"), primary_key=True),
    Index("ix_deal_contacts_contact_id", "contact_id"),
)

deal_history = Table(
    "deal_history",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("deal_id", BigInteger, ForeignKey("deals.id"), nullable=False),
    Column("property", String(63), nullable=False),
    Column("value", Text),
    Column("source", String(12), nullable=False),
    Column("user_id", BigInteger),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_deal_history_deal_id", "deal_id"),
)

deal_views = Table(
    "deal_views",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("name", String(500), nullable=False),
    Column("owner_id", BigInteger, ForeignKey("users.id")),
    Column("conditions", Text, nullable=False),
)

private_notes = Table(
    "private_notes",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("deal_id", BigInteger, ForeignKey("deals.id"), nullable=False),
    Column("author_id", BigInteger, ForeignKey("users.id")),
    Column("body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("ix_private_notes_deal_id", "deal_id"),
)
