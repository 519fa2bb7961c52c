"""Both nodes as real processes over a real Kafka, each part of it killed, frozen, lost or put back to an older copy under load; then the
one checker, which is shown to find out nodes that are wrong on purpose."""

from pathlib import Path

import pytest

from tests.chaos import commands
from tests.chaos.report import keep_failed
from tests.chaos.run import Plan, run

SECONDS, COMMANDS = 60, 60
SEED = "eleven"  # `make chaos` draws others; what meets what is another each time all the same
BROKEN_SECONDS = 5  # no fault is needed to find them out
BROKEN_COMMANDS = 80
# What each side is, the verdicts that are its own, and what the people do, where it is not all that people do.
SAVES = (("partner", 1, commands.register), ("", 3, commands.save))  # and little else happens to a deal, which would hide it
BROKEN = (
    ({"partner": "covers what is stored", "vendor": "covers what is stored"}, ("overwritten",), SAVES),
    ({"partner": "tells private notes", "vendor": "forgets some changes"}, ("leaks", "wrongly_applied"), commands.DOINGS),
)


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
async def test_whatever_is_killed_lost_or_put_back_nothing_acknowledged_is_lost(store: str, tmp_path: Path) -> None:
    plan = Plan(store, SECONDS, SEED, commands=COMMANDS, tools=("clocks", "forgery", "log"))
    result = await run(plan, tmp_path)
    defects = result.verdicts.defects
    if defects:
        folder = keep_failed(plan, tmp_path, defects)
        pytest.fail(f"make chaos REPLAY={folder} does the same again; found: " + "\n".join(each[:500] for each in defects[:5]))
    assert result.verdicts.acknowledged >= 2 * COMMANDS
    assert {"older copy put back", "topic deleted"} <= {each.fault.what for each in result.injected}
    assert all(each.in_step_s is not None for each in result.injected)


@pytest.mark.parametrize(("broken", "verdicts", "doings"), BROKEN)
async def test_the_checker_finds_out_nodes_that_are_wrong_on_purpose(
    broken: dict[str, str], verdicts: tuple[str, ...], doings: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "DOINGS", doings)
    result = await run(Plan("sqlite", BROKEN_SECONDS, "1", broken, BROKEN_COMMANDS), tmp_path)
    for verdict in verdicts:
        assert getattr(result.verdicts, verdict), (verdict, result.verdicts.defects[:5])
