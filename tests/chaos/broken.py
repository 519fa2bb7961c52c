"""A node's process that is wrong on purpose: `python -m tests.chaos.broken VARIANT SIDE run …`. The product has no switch for it: what is
wrong is patched in before its command line begins."""

import importlib
import itertools
import sys
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from sqlalchemy import select

from shared_schema.crm.tables import private_notes
from shared_schema.sync import apply, notes
from shared_schema.sync.station import Work
from tests.mutants.variants import cover_what_is_stored


def forget_some_changes() -> Any:
    """What arrives is counted as applied, but every fourth change is not."""
    real, count = apply.merge_change, itertools.count(1)

    def merge_change(desk: Any, event: Any, change: Any) -> Any:
        return [] if next(count) % 4 == 0 else real(desk, event, change)

    return patch.object(apply, "merge_change", merge_change)


def tell_private_notes() -> Any:
    """A shared note says the newest private note, too."""
    real = notes.add_note

    async def add_note(work: Work, shared_deal_id: int, body: str) -> int:
        newest = select(private_notes.c.body).order_by(private_notes.c.id.desc()).limit(1)
        secret = (await work.tx.execute(newest)).scalar_one_or_none() or ""
        return await real(work, shared_deal_id, f"{body} {secret}")

    return patch.object(notes, "add_note", add_note)


VARIANTS = {
    "covers what is stored": cover_what_is_stored,
    "forgets some changes": forget_some_changes,
    "tells private notes": tell_private_notes,
}


def main() -> None:
    variant, side, *arguments = sys.argv[1:]
    sys.argv = [f"{side}-node", *arguments]
    with ExitStack() as stack:
        stack.enter_context(VARIANTS[variant]())
        importlib.import_module(f"{side}_node.cli").main()


if __name__ == "__main__":
    main()
