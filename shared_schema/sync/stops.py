"""The stop of an inbound stream: so many records parked are a bug or an attack and not a poison pill. The position is kept until a person
resumes; what is parked by then is forgiven."""

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.envelope import Control
from shared_schema.crm.problems import WrongState
from shared_schema.crm.rows import insert_rows, upsert
from shared_schema.crm.statements import Statement
from shared_schema.sync.journal import note
from shared_schema.sync.limits import Limits
from shared_schema.sync.parking import PATIENT
from shared_schema.sync.station import MACHINE, Work
from shared_schema.sync.tables import journal, parked, stops

MINUTE_MS = 60_000
STOPPED = Statement(select(stops.c.why).where(stops.c.partnership == bindparam("of"), stops.c.why.is_not(None)))


class StreamStopped(Exception):
    """Nothing more is applied until a person resumes; `replies` are owed for what was applied before."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.replies: list[Control] = []


async def check_flood(tx: AsyncConnection, partnership: str, limits: Limits, now_ms: int) -> None:
    """Raises StreamStopped where the transaction parks one too many; then none of it may be kept."""
    forgiven = select(stops.c.forgiven).where(stops.c.partnership == partnership).scalar_subquery()
    where = (parked.c.partnership == partnership, parked.c.id > func.coalesce(forgiven, 0))
    waits = parked.c.reason.in_(PATIENT)
    recent = func.count().filter(~waits, parked.c.at_ms > now_ms - MINUTE_MS)
    counts = select(func.count().filter(~waits), recent, func.count().filter(waits)).where(*where)
    most, lately, waiting = (await tx.execute(counts)).one()
    remedy = "look at the dead letters, then `sync resume`"
    if most > limits.parked_max:
        raise StreamStopped(f"{limits.parked_max:,} records are parked, which is the limit; {remedy}")
    if lately > limits.parked_per_minute:
        raise StreamStopped(f"{limits.parked_per_minute:,} records were parked within a minute, which is the limit; {remedy}")
    if waiting > limits.waiting_max:
        raise StreamStopped(f"{limits.waiting_max:,} records wait in parking, which is the limit; {remedy}")


async def stop(tx: AsyncConnection, partnership: str, why: str, now_ms: int) -> None:
    """Stop a stream; in the journal it is the machine's own act."""
    if await STOPPED.fetch(tx, {"of": partnership}):
        return
    told = {"partnership": partnership, "registration": None, "what": "stream stopped", "detail": why, "actor": MACHINE.name}
    await insert_rows(tx, journal, [told | {"at_ms": now_ms}])
    row = {"partnership": partnership, "forgiven": 0, "why": why, "since_ms": now_ms}
    await upsert(tx, stops, [row], ("why", "since_ms"))


async def check_running(connection: AsyncConnection, partnership: str) -> None:
    """Raises StreamStopped if the stream is stopped."""
    for (why,) in await STOPPED.fetch(connection, {"of": partnership}):
        raise StreamStopped(why)


async def resume(work: Work, partnership: str) -> None:
    """Let a stopped stream go on; raises WrongState if it runs."""
    last = select(func.coalesce(func.max(parked.c.id), 0)).where(parked.c.partnership == partnership).scalar_subquery()
    where = (stops.c.partnership == partnership, stops.c.why.is_not(None))
    resumed = await work.tx.execute(update(stops).where(*where).values(why=None, since_ms=work.now_ms, forgiven=last))
    if not resumed.rowcount:
        raise WrongState(f"the stream of {partnership} is not stopped", field="partnership", remedy="see `status`")
    await note(work, partnership, None, "stream resumed", "by hand")


async def read_stops(connection: AsyncConnection) -> dict[str, str]:
    """Why, by partnership, of the streams that are stopped now."""
    statement = select(stops.c.partnership, stops.c.why).where(stops.c.why.is_not(None))
    return {partnership: why for partnership, why in await connection.execute(statement)}
