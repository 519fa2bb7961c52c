"""`make test-compose`: brings the stack up on a real engine, and holds it to what the manual says. About a quarter of an hour."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from deploy.stack.engine import NO_ENGINE, ComposeFailed, NoEngine, find_engine
from tests.compose import companies, profiles, steps, walls
from tests.compose.stand import Failed, Stand

STEPS: tuple[Callable[[Stand], str], ...] = (
    steps.share_and_edit,
    steps.read_lag,
    walls.try_the_walls,
    walls.try_the_networks,
    walls.look_at_the_image,
    steps.cut_the_link,
    steps.start_again,
    steps.restart_each,
    steps.run_by_hand,
    companies.run_two_companies,
    profiles.live,
    profiles.put_proxies_between,
    walls.look_for_secrets,
    profiles.break_it,
)
ERRORS = (Failed, ComposeFailed, httpx.HTTPError, OSError, ValueError, KeyError)


def run(stand: Stand, chosen: list[str]) -> int:
    """Every step, whatever became of the ones before; how many failed."""
    failed = 0
    for step in STEPS:
        if chosen and step.__name__ not in chosen:
            continue
        began_s = time.monotonic()
        try:
            said, good = step(stand), "ok  "
        except ERRORS as error:
            said, good, failed = f"{type(error).__name__}: {error}", "FAIL", failed + 1
        print(f"{good} {step.__name__} ({time.monotonic() - began_s:.0f} s): {said}", flush=True)
    ran = len(chosen) or len(STEPS)
    print(f"{ran - failed} passed, {failed} failed")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="make test-compose", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the stack running at the end")
    parser.add_argument("steps", nargs="*", help=f"only these of {', '.join(step.__name__ for step in STEPS)}")
    arguments = parser.parse_args()
    try:
        find_engine()
    except NoEngine as error:
        print(f"make test-compose: nothing was tested: {error}", file=sys.stderr)
        sys.exit(NO_ENGINE)
    with tempfile.TemporaryDirectory(prefix="dealbridge-compose-") as directory:
        stand = Stand(Path(directory))
        try:
            stand.start()
            failed = run(stand, arguments.steps)
        except ComposeFailed as error:
            sys.exit(f"make test-compose: {error}")
        finally:
            if not arguments.keep:
                stand.stop()
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
