"""The list of erasures that outlives a restore of the store: a file of JSON lines beside it, uids and ids only. Before a node serves, what
the list names and the store still has is erased again."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from shared_schema.contract.documents import Document
from shared_schema.crm.customers import erase_contacts
from shared_schema.crm.deals import erase_deals
from shared_schema.crm.policies import load_policy
from shared_schema.crm.shared_records import SharedRecord, load_records
from shared_schema.crm.tables import contacts
from shared_schema.sync.effects import follow
from shared_schema.sync.erasures import Erased, keep
from shared_schema.sync.scrubbing import erase_below, load_around
from shared_schema.sync.station import Station, Work
from shared_schema.sync.tables import erasures

Row = dict[str, Any]
NAMED = ("partnership", "uid", "kind", "parent", "registration", "side", "fields", "origin", "at_ms")


class BadErasureList(Exception):
    """The list, or a line of it, can not be read or written; the node does not serve before somebody has looked at it."""


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add erasures, on disk when this returns; raises BadErasureList."""
    lines = [json.dumps({name: row[name] for name in NAMED}, sort_keys=True) + "\n" for row in rows]
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadErasureList(f"{path} can not be written ({error.strerror}); set DEALBRIDGE_ERASURE_LIST to a file that can") from error


def read(path: Path | None) -> list[Row]:
    """Every erasure on the list; none if there is no file yet. The last line may be cut, by a crash: then its erasure is in the store."""
    if path is None or not path.exists():
        return []
    try:
        *lines, last = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadErasureList(f"{path} can not be read ({error}); put the list back that was there") from error
    found = [read_line(path, number, line) for number, line in enumerate(lines, start=1) if line]
    if last:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return found


def read_line(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
        return {name: row[name] for name in NAMED}
    except (ValueError, KeyError, TypeError) as error:
        raise BadErasureList(f"line {number} of {path} is no erasure: mend or remove the line, then start again") from error


async def apply(station: Station) -> int:
    """Erase again what the list names and this store does not know as erased; how many."""
    listed = read(station.keeping.erasure_list)
    if not listed:
        return 0
    async with station.working() as work:
        known = select(erasures.c.partnership, erasures.c.uid, erasures.c.fields)
        there = {tuple(row) for row in await work.tx.execute(known)}
        missing = [row for row in listed if (row["partnership"], row["uid"], row["fields"]) not in there]
        by_partnership: dict[str, list[Row]] = defaultdict(list)
        for row in missing:
            by_partnership[row["partnership"]].append(row)
        for partnership, rows in sorted(by_partnership.items()):
            await (erase_again(work, partnership, rows) if partnership else erase_contacts_again(work, rows))
        await keep(work.tx, [entry_of(row) for row in missing], work.now_ms)
        work.woken.add("erasures")
    return len(missing)


def entry_of(row: Row) -> Erased:
    place = (row["partnership"], row["uid"], row["kind"], row["parent"], row["registration"], row["side"])
    return Erased(*place, tuple(each for each in row["fields"].split(",") if each), None, "list")


async def erase_again(work: Work, partnership: str, rows: list[Row]) -> None:
    """One partnership's. A record that this store does not have any more is erased all the same, so that no copy of it comes in."""
    records = await load_around(work.tx, partnership, {row["registration"] for row in rows})
    records |= await load_records(work.tx, partnership, {row["uid"] for row in rows} - set(records))
    for row in rows:
        record = records.get(row["uid"])
        if record is None:
            place = (partnership, row["uid"], row["kind"], row["parent"], row["registration"], row["side"])
            record = records[row["uid"]] = SharedRecord(*place, Document())
        if row["fields"]:
            record.erase(row["fields"].split(","))
        else:
            erase_below(record, records.values())
    await follow(work.tx, work.incarnation, work.due, await load_policy(work.tx, partnership), records.values())
    ours = {row["uid"] for row in rows if row["kind"] == "registration" and not row["fields"] and row["origin"] == "here"}
    await erase_deals(work.tx, partnership, ours, work.now_ms)


async def erase_contacts_again(work: Work, rows: list[Row]) -> None:
    """Contacts by their id here; one that got the id since then is another person."""
    for row in rows:
        meant = (contacts.c.id == int(row["uid"]), contacts.c.created_ms <= row["at_ms"])
        found = (await work.tx.execute(select(contacts.c.id).where(*meant))).scalars().all()
        await erase_contacts(work.tx, found, work.now_ms)
