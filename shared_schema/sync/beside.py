"""What each registration of a deal says beside the deal's own columns: values with their tokens and sync states, and where they differ."""

from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.identifiers import deal_uid
from shared_schema.contract.records import DEAL_FIELDS
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import other
from shared_schema.crm.policies import load_policy
from shared_schema.crm.shared_records import read_record
from shared_schema.sync.deals import find_agreeing
from shared_schema.sync.registrations import Row, is_living, list_registrations
from shared_schema.sync.sync_state import load_index
from shared_schema.sync.views import describe_peer, load_people, present_field


async def read_beside(connection: AsyncConnection, side: Side, deal: Row) -> list[Row]:
    """The deal's registrations, oldest first. Of each: whose it is and how it stands; `fields`, the deal's shared fields and the other
    side's stage as it shows them; `differs`, the fields in which it shows something else than the deal; `follows`, those that the deal
    follows it in."""
    rows = await list_registrations(connection, deal["id"])
    single = sum(map(is_living, rows)) == 1
    return [await read_one(connection, side, deal, row, single=single and is_living(row)) for row in rows]


async def read_one(connection: AsyncConnection, side: Side, deal: Row, row: Row, *, single: bool) -> Row:
    record = await read_record(connection, row["partnership"], deal_uid(row["uid"]))
    told: Row = {**row, **await describe_peer(connection, row["partnership"]), "fields": {}, "differs": [], "follows": []}
    if record is None:
        return told
    policy = await load_policy(connection, row["partnership"])
    index = await load_index(connection, row["partnership"], row["uid"], row["status"])
    people = await load_people(connection, row["partnership"])
    stage = f"{other(side)}_stage"
    names = [*DEAL_FIELDS, *([stage] if policy.shows("deal", stage) else [])]
    agreeing = find_agreeing(side, deal, record.document, policy)
    return told | {
        "fields": {name: present_field(record, name, policy, index, people) for name in names},
        "differs": [name for name in DEAL_FIELDS if name not in agreeing],
        "follows": [name for name in DEAL_FIELDS if single and name in agreeing],
    }
