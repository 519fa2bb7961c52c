"""The partnership's policy as this node has it: a shared record like any other, the vendor's."""

import json
from functools import lru_cache

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import Document
from shared_schema.contract.identifiers import policy_uid
from shared_schema.contract.policy import Policy, make_policy, read_policy
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import partnerships, shared_records

OWN = (shared_records.c.partnership == bindparam("partnership"), shared_records.c.uid == bindparam("uid"))
SAID = Statement(
    select(
        select(shared_records.c.document).where(*OWN).scalar_subquery(),
        select(partnerships.c.terms).where(partnerships.c.id == bindparam("partnership")).scalar_subquery(),
    )
)


async def load_policy(connection: AsyncConnection, partnership: str) -> Policy:
    """The policy in force: its record; until that is here, the terms of the bundle that the partnership began with."""
    (said,) = await SAID.fetch(connection, {"partnership": partnership, "uid": policy_uid(partnership)})
    return make_out(*said)


@lru_cache(maxsize=256)
def make_out(document: str | None, terms: str | None) -> Policy:
    """The policy that these texts say: a pure function of them, so it is read once per version."""
    return read_policy(Document.decode(document)) if document else make_policy(json.loads(terms or "{}"))
