"""The partnership's policy as this node has it: a shared record like any other, the vendor's."""

import json

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import Document
from shared_schema.contract.identifiers import policy_uid
from shared_schema.contract.policy import Policy, make_policy, read_policy
from shared_schema.crm.tables import partnerships, shared_records


async def load_policy(connection: AsyncConnection, partnership: str) -> Policy:
    """The policy in force: its record; until that is here, the terms of the bundle that the partnership began with."""
    where = (shared_records.c.partnership == partnership, shared_records.c.uid == policy_uid(partnership))
    document = (await connection.execute(select(shared_records.c.document).where(*where))).scalar_one_or_none()
    if document:
        return read_policy(Document.decode(document))
    terms = (await connection.execute(select(partnerships.c.terms).where(partnerships.c.id == partnership))).scalar_one_or_none()
    return make_policy(json.loads(terms or "{}"))
