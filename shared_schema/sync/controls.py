"""What the peer's control messages do here: acknowledged rows go, missing numbers go again, a peer that went back gets states, a look is
answered; and where the peer knows more of ours than we do, it is this store that went back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.envelope import Acknowledgement, Control, Digest, Hashes, Inspect, Repair, Resend, Restated, Restore, Shown
from shared_schema.contract.restored import Claim
from shared_schema.sync import outbox, owed_states, restoration, statements, verification
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.leases import begin_epoch, end_epoch
from shared_schema.sync.progress import Reach
from shared_schema.sync.sequence import Progress, void
from shared_schema.sync.tables import leases, outbound_epochs


@dataclass(slots=True)
class Reply:
    """What the controls of one batch ask of us: numbers to void, whether all states are owed, or some, how many for having drifted, the
    ended round trips by kind of record and creation (ms), how many events of the peer's are no longer withheld, what else to say, why this
    store must have gone back if it did, and whether a restoration, of either side, has moved."""

    void: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    owes_state: bool = False
    owes: bool = False
    repaired: int = 0
    resent: int = 0
    released: int = 0
    says: list[Control] = field(default_factory=list)
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    went_back: str | None = None
    restores: bool = False


async def obey(tx: AsyncConnection, incarnation: Incarnation, reach: Reach, controls: Sequence[Control]) -> Reply:
    """Act on what the peer asks and says, in the transaction that moves the position; `reach` counts the batch already."""
    reply, partnership = Reply(), reach.partnership
    for control in controls:
        if isinstance(control, Acknowledgement):
            await take_acknowledgement(tx, partnership, control, reply, incarnation.clock.now_ms())
        if isinstance(control, Resend):
            await take_resend(tx, partnership, control, reply)
        if isinstance(control, Digest | Hashes | Repair | Inspect | Shown):
            await take_look(tx, incarnation, control, reply)
        if isinstance(control, Restore | Restated):
            await take_restoring(tx, incarnation, control, reach, reply)
    if reply.owes_state:
        await owed_states.owe_all(tx, partnership)
        await statements.begin_again(tx, partnership)
        reply.owes = True
    if reply.went_back:
        await restoration.start(tx, incarnation, reply.went_back, partnership)
    return reply


async def take_look(
    tx: AsyncConnection, incarnation: Incarnation, control: Digest | Hashes | Repair | Inspect | Shown, reply: Reply
) -> None:
    """A step of a verification, this side's or the peer's."""
    if isinstance(control, Digest):
        reply.says += await verification.answer_digest(tx, incarnation, control)
    if isinstance(control, Hashes):
        told = await verification.take_hashes(tx, incarnation, control)
        reply.repaired += sum(len(each.uids) for each in told if isinstance(each, Repair))
        reply.owes |= bool(reply.repaired)
        reply.says += told
    if isinstance(control, Repair):
        await verification.take_repair(tx, control)
        reply.owes = True
    if isinstance(control, Inspect):
        reply.says += await verification.answer_inspection(tx, incarnation, control)
    if isinstance(control, Shown):
        await verification.take_shown(tx, incarnation, control)


async def take_restoring(tx: AsyncConnection, incarnation: Incarnation, control: Restore | Restated, reach: Reach, reply: Reply) -> None:
    """The peer's store went back and it asks for our states, or it says that we have got its own."""
    reply.restores = reply.owes = True
    if isinstance(control, Restated):
        await restoration.take_restated(tx, control, reach)
    elif end := await statements.answer(tx, incarnation, control.partnership, control.request):
        reply.says.append(end)


async def take_acknowledgement(tx: AsyncConnection, partnership: str, control: Acknowledgement, reply: Reply, now_ms: int) -> None:
    """Drop the rows below each watermark. One that went back means that the peer was restored: it is owed states, and what follows goes
    under a new epoch, so that the numbers which it lacks can be void. One that we can not explain means that this store went back."""
    claims, gone = [], set()
    reached = await outbox.raise_acknowledged(tx, partnership, {epoch: each.watermark for epoch, each in control.epochs.items()}, now_ms)
    for epoch, each in sorted(control.epochs.items()):
        before = reached.get(epoch)
        if before is None:
            if each.watermark:
                claims.append(Claim(epoch, each.watermark, each.event, False))
                await begin_epoch(tx, partnership, epoch, now_ms, each.watermark)
            continue
        if each.watermark < before.acknowledged:
            reply.owes_state = True
            if await is_running(tx, partnership, epoch):
                await end_epoch(tx, f"relay:{partnership}")
        removed = await outbox.remove_acknowledged(tx, partnership, epoch, each.watermark, control.withheld) if before.bears else []
        reply.acknowledged += [(row.kind, row.created_ms) for row in removed]
        reply.released += sum(row.answers is not None for row in removed)
        gone |= {row.event for row in removed}
        if each.watermark > max(before.acknowledged, before.explained, *(row.sequence for row in removed)):
            claims.append(Claim(epoch, each.watermark, each.event, True))
        if any(row.registration is None for row in removed):
            await owed_states.forget_paid(tx, partnership)
    reply.went_back = await restoration.judge_claims(tx, claims, gone) or reply.went_back


async def take_resend(tx: AsyncConnection, partnership: str, control: Resend, reply: Reply) -> None:
    """Rows go again; numbers acknowledged before are owed as states; numbers of an ended epoch that no row bears are void."""
    for epoch, ranges in sorted(control.epochs.items()):
        asked = [(first, last) for first, last in ranges if first <= last]
        if not asked:
            continue
        found = await outbox.request_again(tx, partnership, epoch, asked)
        reply.resent += len(found)
        acknowledged = await read_acknowledged(tx, partnership, epoch)
        lacking = void(Progress(gaps=tuple(asked)), to_ranges(found)).gaps
        reply.owes_state |= any(first <= acknowledged for first, _ in lacking)
        if lacking and not await is_running(tx, partnership, epoch):
            reply.void[epoch] = list(lacking)


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
