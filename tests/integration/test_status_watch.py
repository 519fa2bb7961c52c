"""The live view of a server's status: it looks again and again, and Ctrl-C ends it without a word."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

from shared_schema.crm.database import Database
from shared_schema.crm.migrations import migrate
from shared_schema.sync import partnerships
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.station import Station
from vendor_node.spec import SPEC

DEADLINE_S = 60
CTRL_C = b"\x03"


async def test_the_view_shows_what_is_new_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/vendor.db"
    database = Database(url)
    await migrate(database, SPEC.migrations)
    ours, theirs = pty.openpty()
    settings = {"DEALBRIDGE_DATABASE": url, "COLUMNS": "200", "LINES": "50", "TERM": "xterm"}
    command = [sys.executable, "-m", "vendor_node.cli", "status", "--watch"]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | settings,
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509  # two calls; without them Ctrl-C would reach nobody
    )
    os.close(theirs)
    try:
        read_until(ours, "no partnership yet")
        async with Station(SPEC, database, SystemClock()).working() as work:
            await partnerships.invite(work, "Initech", "Acme", "here:1")
        read_until(ours, "never heard")
        os.write(ours, CTRL_C)
        read_to_the_end(ours)  # a terminal that nobody reads holds up whoever writes to it
        assert process.wait(DEADLINE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
        await database.close()


def read_to_the_end(terminal: int) -> None:
    """Until nobody holds the other end any more."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and select.select([terminal], [], [], DEADLINE_S)[0]:
        try:
            if not os.read(terminal, 65_536):
                return
        except OSError:  # how Linux says that it is closed
            return


def take_terminal() -> None:
    """In the new process: its standard input is the terminal that its signals come from; and it hears Ctrl-C, as whoever was started in the
    background by a shell does not."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def read_until(terminal: int, text: str) -> None:
    """Read what the process shows, under a deadline that only a bug reaches."""
    seen, until_s = "", time.monotonic() + DEADLINE_S
    while text not in seen and time.monotonic() < until_s:
        ready, _, _ = select.select([terminal], [], [], DEADLINE_S)
        assert ready, seen[-2_000:]
        seen += os.read(terminal, 65_536).decode(errors="replace")
    assert text in seen, seen[-2_000:]
