"""The partnership's policy as this node has it: a shared record like any other, the vendor's."""

import json
from collections.abc import Iterable
from functools import lru_cache

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import Document
from shared_schema.contract.identifiers import policy_uid
from shared_schema.contract.policy import Policy, make_policy, read_policy
from shared_schema.crm.shared_records import SharedRecord, read_row, select_named
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


THERE = shared_records.alias()  # beside the records that are asked for
OF_PARTNERSHIP = (
    select(THERE.c.document).where(THERE.c.partnership == bindparam("partnership"), THERE.c.uid == bindparam("policy")).scalar_subquery(),
    select(partnerships.c.terms).where(partnerships.c.id == bindparam("partnership")).scalar_subquery(),
)
LOCKED_WITH_POLICY = Statement(select_named().add_columns(*OF_PARTNERSHIP).with_for_update(of=shared_records))


async def load_with_policy(connection: AsyncConnection, partnership: str, uids: Iterable[str]) -> tuple[dict[str, SharedRecord], Policy]:
    """Records as load_records gives them, and the policy in force, in one statement."""
    named = {"partnership": partnership, "uids": sorted(set(uids)), "policy": policy_uid(partnership)}
    rows = [tuple(row) for row in await LOCKED_WITH_POLICY.fetch(connection, named)]
    policy = make_out(*rows[0][-2:]) if rows else await load_policy(connection, partnership)
    return {row[1]: read_row(row[:-2]) for row in rows}, policy


@lru_cache(maxsize=256)
def make_out(document: str | None, terms: str | None) -> Policy:
    """The policy that these texts say: a pure function of them, so it is read once per version."""
    return read_policy(Document.decode(document)) if document else make_policy(json.loads(terms or "{}"))
