"""The security page names tests that exist, and every command that the vendor's node has for a partner's life."""

import re
from pathlib import Path

import typer.main

from shared_schema.web.terminal import Terminal
from tests.architecture.test_promises import ROOT, names_in
from vendor_node.partner_commands import serve_partners
from vendor_node.spec import SPEC

PAGE = (ROOT / "deploy" / "security.md").read_text()
NAMED = re.compile(r"`((?:integration|unit|web|contract)/\w+\.py)(?:::test_(\w+))?`")


def test_every_test_that_the_page_names_exists() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 12
    for file, test in named:
        known = names_in(Path(ROOT / "tests" / file))
        assert known and (not test or test in known), f"{file} lacks {test}"


def test_every_command_of_a_partners_life_is_on_the_page() -> None:
    terminal = Terminal(SPEC, ())
    serve_partners(terminal)
    group = typer.main.get_command(terminal.app).commands["partners"]  # type: ignore[attr-defined]  # a group, as typer makes it
    for name in set(group.commands) - {"list", "topics"}:
        assert f"vendor-node partners {name} NAME" in PAGE and f"/{name}`" in PAGE, name
