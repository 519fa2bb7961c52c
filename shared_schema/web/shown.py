"""What a write answers with: the record as it stands now, and what became of each field."""

from collections.abc import Sequence

from sqlalchemy import select

from shared_schema.crm.projected_tables import shared_deals
from shared_schema.sync.capture import Captured
from shared_schema.sync.deals import Saved, outcome_of
from shared_schema.sync.station import Station
from shared_schema.sync.views import read_shared_deal
from shared_schema.web.payloads import Json


async def show_shared(station: Station, shared_deal_id: int, outcomes: Sequence[Saved] = (), **more: object) -> Json:
    """The shared deal, with the outcomes of the write before."""
    async with station.database.reading() as connection:
        record = await read_shared_deal(connection, station.spec.side, shared_deal_id)
    return {"shared_deal": record, "outcomes": [each._asdict() for each in outcomes], **more}


async def show_captured(station: Station, shared_deal_id: int, captured: Captured) -> Json:
    return await show_shared(station, shared_deal_id, outcome_of(captured))


async def show_registration(station: Station, part: Json, **more: object) -> Json:
    """The shared deal that a part of it belongs to, by the part's row."""
    where = (shared_deals.c.partnership == part["partnership"], shared_deals.c.uid == part["registration"])
    async with station.database.reading() as connection:
        shared_deal_id = (await connection.execute(select(shared_deals.c.id).where(*where))).scalar_one()
    return await show_shared(station, shared_deal_id, **more)  # type: ignore[arg-type]  # `more` never holds outcomes
