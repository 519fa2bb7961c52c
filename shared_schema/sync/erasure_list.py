"""The list of erasures that outlives a restore of the store: a file of JSON lines beside it, uids and ids only. Before a node serves, what
the list names and the store still has is erased again; so it is where the store may have gone back meanwhile."""

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
from shared_schema.crm.rows import insert_missing, take_turn
from shared_schema.crm.shared_records import SharedRecord, load_records
from shared_schema.crm.tables import contacts
from shared_schema.sync.effects import follow
from shared_schema.sync.erasing import tell_peer
from shared_schema.sync.erasures import KEY, Erased
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
    listed = {tuple(row[name] for name in KEY): row for row in reversed(read(station.keeping.erasure_list))}
    if not listed:
        return 0
    async with station.working() as work:
        await take_turn(work.tx, "the list of erasures")  # so that of two processes one tells the peers
        known = {tuple(row) for row in await work.tx.execute(select(*(erasures.c[name] for name in KEY)))}
        by_partnership: dict[str, list[Row]] = defaultdict(list)
        for place in sorted(listed.keys() - known):
            by_partnership[place[0]].append(listed[place])
        for partnership, rows in by_partnership.items():
            await (erase_again(work, partnership, rows) if partnership else erase_contacts_again(work, rows))
        work.woken |= {*by_partnership, "erasures"}
    return sum(map(len, by_partnership.values()))


def entry_of(row: Row, event: str | None, now_ms: int) -> Row:
    place = (row["partnership"], row["uid"], row["kind"], row["parent"], row["registration"], row["side"])
    names = tuple(each for each in row["fields"].split(",") if each)
    return Erased(*place, names, event, row["origin"]).row(row["at_ms"]) | {"listed_ms": now_ms}


async def erase_again(work: Work, partnership: str, rows: list[Row]) -> None:
    """One partnership's. A record that this store does not have any more is erased all the same, so that no copy of it comes in. Of ours
    the peer is told once more: it may not have been, or this store may have lost its answer."""
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
    ours = [row for row in rows if row["origin"] == "here"]
    deals = {row["uid"] for row in ours if row["kind"] == "registration" and not row["fields"]}
    await erase_deals(work.tx, partnership, deals, work.now_ms)
    events = {uid: await tell_peer(work, records[uid]) for uid in sorted({row["uid"] for row in ours})}
    told = [(row, events[row["uid"]] if row["origin"] == "here" else None) for row in rows]
    await insert_missing(work.tx, erasures, [entry_of(row, event, work.now_ms) for row, event in told])


async def erase_contacts_again(work: Work, rows: list[Row]) -> None:
    """Contacts by their id here; one that got the id since then is another person."""
    for row in rows:
        meant = (contacts.c.id == int(row["uid"]), contacts.c.created_ms <= row["at_ms"])
        found = (await work.tx.execute(select(contacts.c.id).where(*meant))).scalars().all()
        await erase_contacts(work.tx, found, work.now_ms)
    await insert_missing(work.tx, erasures, [entry_of(row, None, work.now_ms) for row in rows])
