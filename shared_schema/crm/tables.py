"""The store's tables: one row per shared record with its document of registers, and the property history with its source."""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

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
    Index("ix_shared_records_digest", "partnership", "bucket", "hash"),
    Index("ix_shared_records_registration", "registration", "kind"),
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
