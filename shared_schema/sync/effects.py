"""What a change of shared records entails here, whoever made it: rows, columns, and the reactions that the new state asks for.

Derived from the state before and after, never from an event's type, so a duplicate entails nothing.
"""

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import and_, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import LIFE
from shared_schema.contract.life import unseen_fields
from shared_schema.contract.policy import Policy
from shared_schema.crm.projected_tables import comments, persons
from shared_schema.crm.projection import project
from shared_schema.crm.rows import in_partnership, insert_missing
from shared_schema.crm.shared_records import SharedRecord, save_records
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.scrubbing import scrub
from shared_schema.sync.tables import journal, reactions

AT_ONCE = 0  # due whatever the clock says, even one that went back

Due = Callable[[SharedRecord], frozenset[str]]


def nothing_due(_record: SharedRecord) -> frozenset[str]:
    """A node that reacts to nothing."""
    return frozenset()


async def follow(tx: AsyncConnection, incarnation: Incarnation, due: Due, policy: Policy, records: Iterable[SharedRecord]) -> None:
    """Save the changed records of one partnership with all that they entail, in the caller's transaction."""
    changed = sorted((each for each in records if each.changed), key=lambda each: each.uid)
    if not changed:
        return
    now_ms = incarnation.clock.now_ms()
    await project(tx, incarnation.side, changed, policy, now_ms)
    await save_records(tx, changed)
    if deleted := [each for each in changed if LIFE in each.touched and each.state == "deleted"]:
        await note_hidden(tx, deleted, now_ms)
    if erased := [each for each in changed if each.erasing]:
        await scrub(tx, erased, now_ms)
    await insert_missing(tx, reactions, [row for each in changed for row in make_reactions(each, due, now_ms)])


async def note_hidden(tx: AsyncConnection, deleted: Sequence[SharedRecord], now_ms: int) -> None:
    """Tell this node's people, in the journal, what became invisible with a deletion that had not seen it: an edit, or others' comments."""
    partnership = deleted[0].partnership
    unseen = [(each.registration, each.kind, each.uid, ", ".join(names)) for each in deleted if (names := unseen_fields(each.document))]
    notes = {each.uid: str(each.registration) for each in deleted if each.kind == "note"}
    columns = (comments.c.registration, comments.c.uid, persons.c.name)
    authors = comments.outerjoin(persons, and_(persons.c.partnership == comments.c.partnership, persons.c.uid == comments.c.author))
    of_deals = (in_partnership(comments, partnership), comments.c.registration.in_(sorted(set(notes.values()))))
    of_them = (*of_deals, comments.c.note.in_(sorted(notes)), comments.c.state == "alive")
    hidden = (await tx.execute(select(*columns).select_from(authors).where(*of_them))).all() if notes else []
    told = [(registration, f"{kind} {uid}: {names}") for registration, kind, uid, names in unseen]
    told += [(registration, f"comment {uid} by {name or 'somebody'}") for registration, uid, name in hidden]
    row = {"partnership": partnership, "what": "hidden by a deletion", "actor": "Dealbridge", "at_ms": now_ms}
    if told:
        await tx.execute(insert(journal), [{**row, "registration": registration, "detail": detail} for registration, detail in told])


def make_reactions(record: SharedRecord, due: Due, now_ms: int) -> list[dict[str, object]]:
    """The reactions that the state after asks for and the state before did not."""
    wanted = due(record)
    before = record.before() if wanted else None
    new = wanted - due(before) if before else wanted
    row: dict[str, object] = {"partnership": record.partnership, "registration": record.uid, "created_ms": now_ms, "attempts": 0}
    return [{**row, "kind": kind, "due_ms": AT_ONCE} for kind in sorted(new)]
