"""What the peer's control messages do here: acknowledged rows go, missing numbers go again, a peer that went back gets states, a look is
answered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.envelope import Acknowledgement, Control, Digest, Hashes, Inspect, Repair, Resend, Shown
from shared_schema.sync import outbox, owed_states, verification
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.tables import leases, outbound_epochs

NUMBERS_MAX = 10_000


@dataclass(slots=True)
class Reply:
    """What the controls of one batch ask of us: numbers to void, whether all states are owed, or some, the rows of ended round trips by
    their creation (ms), how many events of the peer's are no longer withheld, and what else to say."""

    void: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    owes_state: bool = False
    owes: bool = False
    resent: int = 0
    released: int = 0
    says: list[Control] = field(default_factory=list)
    acknowledged_ms: list[int] = field(default_factory=list)
    unknown_epochs: set[str] = field(default_factory=set)


async def obey(tx: AsyncConnection, incarnation: Incarnation, partnership: str, controls: Sequence[Control]) -> Reply:
    """Act on acknowledgements and resend requests, in the transaction that moves the position."""
    reply = Reply()
    for control in controls:
        if isinstance(control, Acknowledgement):
            await take_acknowledgement(tx, partnership, control, reply)
        if isinstance(control, Resend):
            await take_resend(tx, partnership, control, reply)
        if isinstance(control, Digest):
            reply.says += await verification.answer_digest(tx, incarnation, control)
        if isinstance(control, Hashes):
            reply.says += await verification.take_hashes(tx, incarnation, control)
            reply.owes |= any(isinstance(each, Repair) for each in reply.says)
        if isinstance(control, Repair):
            await verification.take_repair(tx, control)
            reply.owes = True
        if isinstance(control, Inspect):
            reply.says += await verification.answer_inspection(tx, incarnation, control)
        if isinstance(control, Shown):
            await verification.take_shown(tx, incarnation, control)
    if reply.owes_state:
        await owed_states.owe_all(tx, partnership)
        reply.owes = True
    return reply


async def take_acknowledgement(tx: AsyncConnection, partnership: str, control: Acknowledgement, reply: Reply) -> None:
    """Drop the rows below each watermark. One that went back means that the peer was restored: it is owed states."""
    for epoch, each in sorted(control.epochs.items()):
        before = await outbox.raise_acknowledged(tx, partnership, epoch, each.watermark)
        if before is None:
            reply.unknown_epochs.add(epoch)
            continue
        reply.owes_state |= each.watermark < before
        removed = await outbox.remove_acknowledged(tx, partnership, epoch, each.watermark, control.withheld)
        reply.acknowledged_ms += [row.created_ms for row in removed]
        reply.released += sum(row.answers is not None for row in removed)
        if any(row.registration is None for row in removed):
            await owed_states.forget_paid(tx, partnership)


async def take_resend(tx: AsyncConnection, partnership: str, control: Resend, reply: Reply) -> None:
    """Rows go again; numbers acknowledged before are owed as states; numbers of an ended epoch that no row bears are void."""
    for epoch, ranges in sorted(control.epochs.items()):
        asked = {number for first, last in ranges for number in range(first, min(last, first + NUMBERS_MAX) + 1)}
        if not asked:
            continue
        found = await outbox.request_again(tx, partnership, epoch, ranges)
        reply.resent += len(found)
        acknowledged = await read_acknowledged(tx, partnership, epoch)
        lacking = asked - found
        reply.owes_state |= any(number <= acknowledged for number in lacking)
        if lacking and not await is_running(tx, partnership, epoch):
            reply.void[epoch] = to_ranges(lacking)


async def read_acknowledged(tx: AsyncConnection, partnership: str, epoch: str) -> int:
    where = (outbound_epochs.c.partnership == partnership, outbound_epochs.c.epoch == epoch)
    return (await tx.execute(select(outbound_epochs.c.acknowledged).where(*where))).scalar_one_or_none() or 0


async def is_running(tx: AsyncConnection, partnership: str, epoch: str) -> bool:
    """Whether a relay may still mark rows with this epoch: nothing of it may be called void."""
    statement = select(leases.c.epoch).where(leases.c.name == f"relay:{partnership}").with_for_update()
    return (await tx.execute(statement)).scalar_one_or_none() == epoch


def to_ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Inclusive ranges, ascending."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
