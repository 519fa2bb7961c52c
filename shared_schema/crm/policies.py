"""The partnership's policy as this node has it: a shared record like any other, the vendor's."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import Document
from shared_schema.contract.identifiers import policy_uid
from shared_schema.contract.policy import Policy, read_policy
from shared_schema.crm.tables import shared_records


async def load_policy(connection: AsyncConnection, partnership: str) -> Policy:
    """The policy in force; the default one until its record is here."""
    where = (shared_records.c.partnership == partnership, shared_records.c.uid == policy_uid(partnership))
    document = (await connection.execute(select(shared_records.c.document).where(*where))).scalar_one_or_none()
    return read_policy(Document.decode(document)) if document else Policy()
