"""Deletions that wait for a person's word, that are taken back, or whose content goes in the end; and a stream that stops."""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import select

from shared_schema.crm.projected_tables import trash as trash_rows
from shared_schema.sync import dead_letters, held, notes, registrations, stops, trash
from shared_schema.sync.braking import Direction
from shared_schema.sync.held import Word
from shared_schema.sync.station import Work
from tests.checker import demand
from tests.simulation.actor import Actor, count
from tests.simulation.tampering import garble
from tests.simulation.world import World

DAY_MS = 86_400_000
NOTES = 7
HELD_OUT, HELD_IN = "held = 'brake'", "reason = 'brake'"


async def brake(world: World) -> None:
    """More notes are deleted than pass without a word. What waits unsent is dropped, then released. What the vendor holds of that is
    dropped, and their author takes them back; then released."""
    partner, vendor = world.partner, world.vendor
    world.spawn(release_in_the_end(world))
    for number in range(NOTES):
        await partner.act("note", lambda work, at=number: notes.add_note(work, 1, f"note {at}"))
    await world.settle()
    await delete_notes(partner)
    waiting = count(partner, "outbox", HELD_OUT)  # a note whose answer was lost is there twice
    demand(bool(world.known_before) or waiting >= 2, "of seven deletions two wait")
    await say(partner, "out", "drop")
    await delete_notes(partner)
    await say(partner, "out", "release")
    await world.until(lambda: count(vendor, "parked", HELD_IN), "the vendor holds what comes in")
    await say(vendor, "in", "drop")
    await world.until(lambda: count(partner, "peer_outcomes", "outcome = 'refused'") >= waiting, "their author is told")
    for (note,) in partner.rows("SELECT id FROM shared_notes ORDER BY id DESC LIMIT ?", waiting):
        await partner.act("restore note", lambda work, at=note: notes.bring_back(work, "note", at))
    await delete_notes(partner)
    await say(partner, "out", "release")
    await world.until(lambda: count(vendor, "parked", HELD_IN), "the vendor holds them again")
    await say(vendor, "in", "release")
    while count(vendor, "parked", HELD_IN):  # what a process that was struck had sent once more is held once more
        await say(vendor, "in", "release", free=True)
        await asyncio.sleep(10)
    await world.until(lambda: not count(vendor, "shared_notes", "state = 'alive'"), "they are gone on both sides")


async def delete_notes(partner: Actor) -> None:
    for (note,) in partner.rows("SELECT id FROM shared_notes WHERE state = 'alive' AND side = 'partner' ORDER BY id"):
        await partner.act("delete note", lambda work, at=note: notes.remove(work, "note", at))


async def say(actor: Actor, direction: Direction, word: Word, *, free: bool = False) -> None:
    partnership = actor.rows("SELECT id FROM partnerships")[0][0]
    await actor.ask(f"{word} {direction}", lambda: held.decide(actor.station, actor.author, partnership, direction, word), free=free)


async def release_in_the_end(world: World) -> None:
    """Whatever a store that went back holds again, when nobody plays any more."""
    while True:
        await asyncio.sleep(5)
        for actor in () if world.playing else world.actors:
            if count(actor, "outbox", HELD_OUT):
                await say(actor, "out", "release", free=True)
            if count(actor, "parked", HELD_IN):
                await say(actor, "in", "release", free=True)


async def delete_and_go_back(world: World) -> None:
    """A store goes back to before it wrote notes and deleted them; the brake holds what it gets back of that, and it is mended before a
    person lets it pass: then its own deletions are applied, and not refused as if a forger had made them up."""
    partner, vendor = world.partner, world.vendor
    partner.keep_commits()
    for number in range(NOTES):
        await partner.act("note", lambda work, at=number: notes.add_note(work, 1, f"note {at}"))
    await delete_notes(partner)
    await say(partner, "out", "release")
    await world.until(lambda: count(vendor, "parked", HELD_IN), "the vendor holds what comes in")
    await say(vendor, "in", "release")
    await world.settle()
    await partner.go_back_by(len(partner.commits))
    await world.until(lambda: count(partner, "parked", HELD_IN), "the partner holds what comes back")
    await world.until(lambda: not count(partner, "restorations"), "its store is mended")
    await say(partner, "in", "release")
    await world.settle()
    demand(not count(partner, "shared_notes", "state = 'alive'"), "they are gone again")
    demand(not count(partner, "refusals"), "nothing of its own is refused")


async def trash_and_empty(world: World) -> None:
    """A note and a deal are deleted and taken back from the trash, and deleted again; days later their content is gone on both sides."""
    partner, vendor = world.partner, world.vendor
    world.spawn(empty_in_the_end(world))
    await partner.act("note", lambda work: notes.add_note(work, 1, "to be thrown away"))
    await vendor.act("note", lambda work: notes.add_note(work, 2, "goes with its deal"))
    await world.settle()
    await delete_both(partner)
    for kind in ("note", "deal"):
        await partner.act("take back", take_back(kind))
    await world.until(lambda: not count(vendor, "trash"), "nothing is in the trash")
    await delete_both(partner)
    await world.settle()
    for _ in range(2):  # a side that was struck may have heard of the deletions after the first week had passed
        for name in world.skews:
            world.skews[name] += 9 * DAY_MS
        await asyncio.sleep(21)
    await world.until(lambda: not count(partner, "trash") and not count(vendor, "trash"), "the trash is emptied")


async def delete_both(partner: Actor) -> None:
    await partner.act("delete note", lambda work: notes.remove(work, "note", 1))
    await partner.act("delete deal", lambda work: registrations.delete_for_both(work, 2, None))


def take_back(kind: str) -> Callable[[Work], Awaitable[str | None]]:
    async def act(work: Work) -> str | None:
        found = (await work.tx.execute(select(trash_rows.c.id).where(trash_rows.c.kind == kind))).scalars().first()
        return await trash.restore(work, found) if found else None  # None: done before an answer was lost

    return act


async def empty_in_the_end(world: World) -> None:
    """The trash is looked through more often than every ten minutes."""
    while True:
        await asyncio.sleep(20)
        for actor in world.actors:
            actor.station.bell.ring({"trash"})


async def flood(world: World) -> None:
    """So much can not be read that the stream stops; what is honest waits until somebody has looked and resumes it."""
    partner, vendor = world.partner, world.vendor
    world.spawn(resume_in_the_end(world))
    many = world.rules.limits.parked_max + 2
    garble(world, many)
    await partner.act("note", lambda work: notes.add_note(work, 1, "behind the flood"))
    await world.until(lambda: count(vendor, "stops", "why IS NOT NULL"), "the stream stops")
    await vendor.act("resume", lambda work: stops.resume(work, world.partnership))
    await world.until(lambda: count(vendor, "shared_notes") or is_lost(world, many), "what came behind the flood is there")
    for (letter,) in vendor.rows("SELECT id FROM parked ORDER BY id"):
        await vendor.act("discard", lambda work, at=letter: dead_letters.discard(work, at, "no sense in it"))


def is_lost(world: World, many: int) -> bool:
    """Whether the note may have gone with the store of who wrote it, and all of the flood is here."""
    return bool(world.known_before) and count(world.vendor, "parked") >= many


async def resume_in_the_end(world: World) -> None:
    """A stream that stops again because the store went back, when nobody plays any more."""
    while True:
        await asyncio.sleep(5)
        if not world.playing and count(world.vendor, "stops", "why IS NOT NULL"):
            await world.vendor.act("resume", lambda work: stops.resume(work, world.partnership), free=True)
