"""What `make up` says when a container ended badly: which, and its own last words."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.stack.engine import Compose, ComposeFailed
from deploy.stack.up import list_unready, start

DOCKER = """#!/bin/sh
case "$*" in
*ps*) echo '{"Service": "setup", "State": "exited", "ExitCode": 1, "Health": ""}
{"Service": "keys", "State": "exited", "ExitCode": 0, "Health": ""}' ;;
*config*) printf 'setup\\nkeys\\n' ;;
*"logs"*setup*) echo 'set-up: the broker does not do it' ;;
*" up "*) exit 1 ;;
esac
"""


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    """Of an engine whose set-up failed."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return Compose(tmp_path / "compose.yaml")


@pytest.mark.parametrize("act", [start, list_unready])
def test_a_step_that_failed_is_told_with_its_last_words(stack: Compose, act: Callable[[Compose], object]) -> None:
    with pytest.raises(ComposeFailed, match=r"setup ended with 1: set-up: the broker does not do it$"):
        act(stack)
