"""What commands wrote, by their own account at the moment of writing: without a statement more, so that no point moves."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import Context as TaskContext
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from shared_schema.contract.documents import Document
from shared_schema.contract.registers import Context
from shared_schema.sync import capture, notes, outbox
from shared_schema.sync.station import Work

Held = set[tuple[str, str, str, str, int]]
MARK = " #"


class Dot(NamedTuple):
    """One write of one field."""

    partnership: str
    uid: str
    field: str
    incarnation: str
    counter: int


class Blind(NamedTuple):
    """A write that covers what is stored: a save without tokens."""

    partnership: str
    uid: str
    field: str
    stored: Context


@dataclass
class Deed:
    """One try of one command: what it wrote and sent, the texts that it was asked to add, and what stood where it wrote without having been
    shown anything. `answered`: its client was told that it is
    done. `lost`: what of it no store had any more when one went back."""

    who: str
    name: str
    free: bool
    first: bool
    answered: bool = False
    written: list[Dot] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    blind: list[Blind] = field(default_factory=list)
    lost: set[Dot] = field(default_factory=set)


DEED: ContextVar[Deed | None] = ContextVar("DEED", default=None)


def accounting_to(deed: Deed) -> TaskContext:
    """Where a task accounts to it for what it writes."""
    context = copy_context()
    context.run(DEED.set, deed)
    return context


@contextmanager
def watching() -> Iterator[None]:
    """While inside, commands account for what they write, and each text that is added is another one, even at another try."""
    append_history, append, make_write, numbers = capture.append_history, outbox.append, capture.make_write, count(1)

    def remember_blind(incarnation: Any, policy: Any, command: Any, record: Any, asked: Any) -> Any:
        if asked.seen is None and (deed := DEED.get()) is not None:
            stored = record.document.get(asked.field).context
            deed.blind.append(Blind(command.partnership, asked.uid, asked.field, dict(stored)))
        return make_write(incarnation, policy, command, record, asked)

    async def remember_written(tx: Any, written: Sequence[Any], at_ms: int) -> None:
        if (deed := DEED.get()) is not None:
            named = ((each.record.partnership, each.record.uid, each.field, each.sibling.dot) for each in written)
            deed.written += [Dot(*place, dot.incarnation, dot.counter) for *place, dot in named]
        await append_history(tx, written, at_ms)

    async def remember_sent(tx: Any, events: Sequence[Any], *rest: Any, **named: Any) -> None:
        if (deed := DEED.get()) is not None:
            deed.events += [each.id for each in events]
        await append(tx, events, *rest, **named)

    with ExitStack() as stack:
        stack.enter_context(patch.object(capture, "append_history", remember_written))
        stack.enter_context(patch.object(outbox, "append", remember_sent))
        stack.enter_context(patch.object(capture, "make_write", remember_blind))
        for name in ("add_note", "add_comment"):
            stack.enter_context(patch.object(notes, name, mark_texts(getattr(notes, name), numbers)))
        yield


def mark_texts(add: Any, numbers: Iterator[int]) -> Any:
    """The command that adds a text, with another number at each."""

    async def add_marked(work: Work, place: int, body: str) -> Any:
        marked = f"{body}{MARK}{next(numbers)}."
        done = await add(work, place, marked)
        if (deed := DEED.get()) is not None:
            deed.texts.append(marked)
        return done

    return add_marked


def read_held(path: Path) -> Held:
    """The writes that a store has: in its history, or standing."""
    with sqlite3.connect(path) as connection:
        held = set(connection.execute("SELECT partnership, uid, field, incarnation, counter FROM property_history"))
        for partnership, uid, document in connection.execute("SELECT partnership, uid, document FROM shared_records"):
            registers = Document.decode(document).registers()
            held |= {(partnership, uid, name, *each.dot) for name, register in registers.items() for each in register.siblings}
    connection.close()
    return held
