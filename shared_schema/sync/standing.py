"""What a batch needs to know of its partnership before it is applied, in one statement."""

from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Text, bindparam, cast, exists, literal, null, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.identifiers import policy_uid
from shared_schema.contract.policy import Policy
from shared_schema.crm.policies import OWN, make_out
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import partnerships, shared_records
from shared_schema.sync.progress import EPOCH, Reach, make_reach
from shared_schema.sync.tables import discards, inbound_epochs, outbox


class Standing(NamedTuple):
    """The policy in force, how far the peer's epochs have come, which of its events are withheld, and whether any were discarded."""

    policy: Policy
    reach: Reach
    withheld: list[str]
    discards: bool


def select_parts() -> Any:
    """One row for the policy (its record, the terms), one for each epoch, one for each withheld event, and one if any were discarded."""
    document = select(shared_records.c.document).where(*OWN).scalar_subquery()
    terms = select(partnerships.c.terms).where(partnerships.c.id == bindparam("partnership")).scalar_subquery()
    number, text = cast(null(), BigInteger), cast(null(), Text)
    policy = select(literal("policy"), document, number, terms, text, text, number)
    epochs = select(literal("epoch"), *EPOCH).where(inbound_epochs.c.partnership == bindparam("partnership"))
    ours = (outbox.c.partnership == bindparam("partnership"), outbox.c.answers.is_not(None))
    withheld = select(literal("withheld"), outbox.c.answers, number, text, text, text, number).where(*ours)
    discarded = exists().where(discards.c.partnership == bindparam("partnership"))
    return union_all(policy, epochs, withheld, select(literal("discards"), text, number, text, text, text, number).where(discarded))


PARTS = Statement(select_parts())


async def read_standing(tx: AsyncConnection, partnership: str) -> Standing:
    """How a partnership's inbound stream stands; certain while its position is locked."""
    rows = await PARTS.fetch(tx, {"partnership": partnership, "uid": policy_uid(partnership)})
    parts: dict[str, list[Any]] = {"policy": [], "epoch": [], "withheld": [], "discards": []}
    for part, *values in rows:
        parts[part].append(values)
    ((document, _, terms, *_),) = parts["policy"]
    withheld = sorted({answers for answers, *_ in parts["withheld"]})
    return Standing(make_out(document, terms), make_reach(partnership, parts["epoch"]), withheld, bool(parts["discards"]))
