"""The vendor's own tables: reps with their place in the rotation, and assignments with their explanation."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, and_

from shared_schema.crm.tables import Identity, metadata

reps = Table(
    "reps",
    metadata,
    Column("user_id", BigInteger, ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column("out_from", String(10)),
    Column("out_until", String(10)),
    Column("weight", Integer, nullable=False),
    Column("cap", Integer),
    Column("territories", Text, nullable=False),
    Column("segments", Text, nullable=False),
    Column("languages", Text, nullable=False),
    Column("credit", BigInteger, nullable=False),
)

assignments = Table(
    "assignments",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("partnership", String(63), nullable=False),
    Column("registration", String(36), nullable=False),
    Column("rep_id", BigInteger, ForeignKey("users.id")),
    Column("method", String(12), nullable=False),
    Column("turn", Integer, nullable=False),
    Column("automatic", Boolean, nullable=False),
    Column("explanation", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("accepted_ms", BigInteger),
)
_once = and_(assignments.c.automatic, assignments.c.rep_id.is_not(None))
_turn = (assignments.c.partnership, assignments.c.registration, assignments.c.turn)
Index("uq_assignments_automatic", *_turn, unique=True, sqlite_where=_once, postgresql_where=_once)
Index("ix_assignments_registration", assignments.c.partnership, assignments.c.registration)
