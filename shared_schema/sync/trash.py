"""The trash: what was deleted for both sides and can still be restored, and what became invisible with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import LIFE
from shared_schema.contract.life import ALIVE, is_deletion, unseen_fields
from shared_schema.contract.policy import Policy, value_of
from shared_schema.contract.registers import latest_first, side_of
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import NotFound
from shared_schema.crm.projected_tables import comments, shared_deals, shared_notes, trash
from shared_schema.crm.rows import in_partnership
from shared_schema.crm.shared_records import SharedRecord, load_record, read_records
from shared_schema.sync import notes, offers, registrations
from shared_schema.sync.capture import Write
from shared_schema.sync.registrations import check_restorable
from shared_schema.sync.restorable import restorable_until_ms, select_behind_ms
from shared_schema.sync.station import Work
from shared_schema.sync.views import load_people

Row = dict[str, Any]
PAGE_MAX = 200
EXCERPT = 120
TITLES = ("name", "body", "number", "sku", "person")


async def list_trash(connection: AsyncConnection, days: int, after: int = 0, limit: int = 50) -> list[Row]:
    """A page of what can be restored, oldest first: what it is, who deleted it and when, until when it can be restored, which fields the
    deletion had not seen, and what of other people became invisible with it."""
    statement = (
        select_shown(select_behind_ms().label("behind_ms")).where(trash.c.id > after).order_by(trash.c.id).limit(min(limit, PAGE_MAX))
    )
    rows = [dict(row) for row in (await connection.execute(statement)).mappings()]
    found = []
    for partnership in sorted({row["partnership"] for row in rows}):
        some = [row for row in rows if row["partnership"] == partnership]
        records = await read_records(connection, partnership, [row["uid"] for row in some])
        policy, people = await load_policy(connection, partnership), await load_people(connection, partnership)
        hidden = await find_hidden(connection, partnership, some)
        for row in some:
            document = records[row["uid"]].document
            until = {"restorable_until_ms": restorable_until_ms(document, row["deleted_ms"], row.pop("behind_ms"), days)}
            found.append(present(row, records[row["uid"]], policy, people) | {"hidden": hidden.get(row["uid"], [])} | until)
    return sorted(found, key=lambda row: int(row["id"]))


def select_shown(*more: ColumnElement[Any]) -> Select[Any]:
    """What is in the trash, with its shared deal. What came here when its sharing had stopped already is in no list of this side's."""
    of_it = and_(shared_deals.c.partnership == trash.c.partnership, shared_deals.c.uid == trash.c.registration)
    came_shared = or_(trash.c.registration.is_(None), shared_deals.c.id.is_not(None))
    columns = (*trash.c, shared_deals.c.id.label("shared_deal_id"), *more)
    return select(*columns).select_from(trash.outerjoin(shared_deals, of_it)).where(came_shared)


def present(row: Row, record: SharedRecord, policy: Policy, people: Mapping[str, str]) -> Row:
    last = next(each for each in latest_first(record.document.get(LIFE).siblings) if is_deletion(each))
    titles = (value_of(record.document, name, policy.display_rule(record.kind, name)) for name in TITLES)
    title = next((each for each in titles if isinstance(each, str)), "")
    told = {"title": title[:EXCERPT], "deleted_side": side_of(last.dot.incarnation), "deleted_by": people.get(last.actor or "")}
    return {**row, **told, "unseen": unseen_fields(record.document)}


async def find_hidden(connection: AsyncConnection, partnership: str, deleted: Sequence[Row]) -> dict[str, list[Row]]:
    """The living comments under deleted notes, by the note's uid."""
    columns = (comments.c.id, comments.c.note, comments.c.author)
    uids, registrations = ([row[name] for row in deleted] for name in ("uid", "registration"))
    of_deals = (in_partnership(comments, partnership), comments.c.registration.in_(registrations))
    where = (*of_deals, comments.c.note.in_(uids), comments.c.state == "alive")
    found: dict[str, list[Row]] = {}
    for row in (await connection.execute(select(*columns).where(*where).order_by(comments.c.id))).mappings():
        found.setdefault(row["note"], []).append({"kind": "comment", "id": row["id"], "author": row["author"]})
    return found


async def restore(work: Work, trash_id: int) -> str:
    """Bring one thing back from the trash, by its kind's own rules; its uid. Raises NotFound for what is not there any more."""
    row = (await work.tx.execute(select_shown().where(trash.c.id == trash_id))).mappings().one_or_none()
    if row is None:
        raise NotFound("thing in the trash", trash_id)
    partnership, uid, kind = row["partnership"], row["uid"], row["kind"]
    if kind == "deal":
        await registrations.restore(work, row["shared_deal_id"])
    elif kind in notes.TABLES:
        table = shared_notes if kind == "note" else comments
        found = await work.tx.execute(select(table.c.id).where(table.c.partnership == partnership, table.c.uid == uid))
        await notes.bring_back(work, kind, found.scalar_one())
    else:
        record = await load_record(work.tx, partnership, uid)
        await check_restorable(work, record)
        await work.capture(partnership, row["registration"], offers.TYPES[kind], [Write(uid, LIFE, ALIVE)])
    return str(uid)
