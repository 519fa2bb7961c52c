"""A sample of the simulation for each commit, and the wrong variants that it must catch."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import FunctionType
from unittest.mock import patch

import pytest

from partner_node.spec import SPEC as PARTNER
from shared_schema.contract import registers, registration
from shared_schema.contract.envelope import CONTROL_TYPES, EVENT_TYPES
from shared_schema.contract.registers import encode_token
from shared_schema.sync.deals import save_shared
from tests.checker import Broken
from tests.simulation import deleting, histories, scenes
from tests.simulation.commands import ELSEWHERE, find_commands, noting_commands
from tests.simulation.histories import History, all_points, be_quiet, live, pairs, parse, random_histories, singles, twice
from tests.simulation.judge import SCENES, catch, find_killer
from tests.simulation.script import HOLDING, SCRIPTS, Script
from tests.simulation.tally import OUTCOMES, Tally, give_account, list_failures
from tests.simulation.template import drop_template, make_template
from tests.simulation.variants import VARIANTS
from tests.simulation.world import World
from vendor_node.spec import SPEC as VENDOR

SINGLE, DOUBLE, TWICE, RANDOM = 45, 20, 10, 15
TELL = """
import sys
from tests.simulation.histories import be_quiet, live, parse
from tests.simulation.tally import Tally
from tests.simulation.template import drop_template, make_template
be_quiet()
template = make_template()
print(*live(parse(sys.argv[1]), template, Tally()).notes, sep="\\n")
drop_template(template)
"""
MORE_SCENES = {
    "a deletion that comes back to a restored store, held by the brake, is applied at a word": Script(
        "shared", deleting.delete_and_go_back, HOLDING
    ),
    "a save on a stale page makes a conflict": Script("shared", scenes.stale_page),
    "saving what stands again closes a conflict": Script("shared", scenes.say_what_stands),
}


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    directory = make_template()
    yield directory
    drop_template(directory)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    be_quiet()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def seed() -> int:
    """Another sample for each commit."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return int(head[:8] or "7", 16)


@pytest.fixture(scope="module")
def places(template: Path, seed: int) -> list[tuple[str, str, int]]:
    """Every point that a node passes in every script."""
    be_quiet()
    return all_points(seed, template)


async def save_two_values(world: World) -> None:
    """One page, saved twice: both values stand, whether anybody lists a conflict or not."""
    token = {"next_step": encode_token({})}
    for step in ("call", "write"):
        await world.partner.act("save", lambda work, value=step: save_shared(work, 1, {"next_step": value}, token))


def check_whole(tally: Tally) -> None:
    """Fails with all that the histories that failed tell: an assertion's own words are cut."""
    if tally.failures:
        pytest.fail("\n".join(list_failures(tally)), pytrace=False)


def test_a_history_that_fails_is_told_by_name_with_what_broke_and_what_happened(template: Path) -> None:
    def find_fault(world: World) -> None:
        raise Broken(f"the whole of it: {'much ' * 100}and its end")

    tally = Tally()
    with patch.object(histories, "check", find_fault):
        world = live(parse("share:3:vendor@57=freeze"), template, tally)
    with pytest.raises(pytest.fail.Exception) as failed:
        check_whole(tally)
    told = str(failed.value)
    assert "FAILED share:3:vendor@57=freeze: Broken: the whole of it" in told and "and its end" in told
    assert "python -m tests.simulation --replay 'share:3:vendor@57=freeze'" in told
    assert give_account(world) in told and "vendor, the last" in told


def test_one_name_is_one_history(template: Path) -> None:
    tally = Tally()
    names = ("talk:3:vendor@57=freeze", "random-three:3:vendor@40:second@90", "random-shared:3:vendor@40")
    for name in names:
        first, again = (live(parse(name), template, tally) for _ in range(2))
        assert parse(name).name == name
        assert list(first.notes) == list(again.notes)
        assert first.cluster.ever == again.cluster.ever
    check_whole(tally)
    assert list(live(parse("talk:4:vendor@57=freeze"), template, tally).notes) != list(live(parse(names[0]), template, tally).notes)


@pytest.mark.parametrize(
    "name", ["random-shared:732961123:partner@334:partner@496=restore-9:vendor@20=restore-12", "brake:77:partner@421=fail over-3"]
)
def test_one_name_is_one_history_in_every_process(name: str) -> None:
    """Whatever the order in which a process keeps its sets."""
    told = []
    for hash_seed in ("0", "3"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", TELL, name], env=environment, capture_output=True, text=True, check=True)
        told.append(done.stdout)
    assert told[0] == told[1] and len(told[0].splitlines()) > 30


def test_the_scripts_use_every_command_every_type_of_event_and_control_and_every_reaction(template: Path, seed: int) -> None:
    tally = Tally()
    used: set[str] = set()
    with noting_commands(used):
        for play in SCRIPTS:
            live(History(play, seed), template, tally)
    check_whole(tally)
    assert set(find_commands().values()) - ELSEWHERE == used
    assert {*EVENT_TYPES, *CONTROL_TYPES} <= set(tally.types)
    assert {outcome for _, outcome in tally.outcomes} == set(OUTCOMES)
    assert {*PARTNER.reactions, *VENDOR.reactions} == set(tally.reactions)


def test_a_history_struck_at_any_point_leaves_all_sides_whole(template: Path, seed: int, places: list[tuple[str, str, int]]) -> None:
    tally = Tally()
    for history in islice(singles(seed, places), SINGLE):
        live(history, template, tally)
    check_whole(tally)
    assert tally.struck.total() >= SINGLE * 0.9


def test_a_history_struck_twice_leaves_all_sides_whole(template: Path, seed: int, places: list[tuple[str, str, int]]) -> None:
    tally = Tally()
    for history in islice(pairs(seed, places), DOUBLE):
        live(history, template, tally)
    check_whole(tally)
    assert tally.histories.total() == DOUBLE and tally.struck.total() >= DOUBLE * 0.9


def test_a_store_that_goes_back_twice_soon_after_leaves_all_sides_whole(
    template: Path, seed: int, places: list[tuple[str, str, int]]
) -> None:
    tally = Tally()
    for history in islice(twice(seed, places), TWICE):
        live(history, template, tally)
    check_whole(tally)
    assert tally.histories.total() == TWICE and tally.struck.total() >= TWICE * 0.9


def test_random_people_crashes_and_misfortunes_lose_nothing(template: Path, seed: int) -> None:
    tally = Tally()
    for history in islice(random_histories(seed), RANDOM):
        live(history, template, tally)
    check_whole(tally)
    assert tally.faults["tail lost"] and tally.faults["broker away"] and tally.faults["freeze"]


@pytest.mark.parametrize("name", [*SCENES, *MORE_SCENES])
def test_a_rare_coincidence_leaves_both_sides_whole(template: Path, name: str) -> None:
    if broken := catch({**SCENES, **MORE_SCENES}[name], template):
        pytest.fail(broken, pytrace=False)


@pytest.mark.parametrize(
    ("real", "wrong", "scene", "told"),
    [
        (registers.differs, lambda register: False, Script("shared", save_two_values), "listed conflicts"),
        (registration.status_of, lambda document: "extension pending", SCRIPTS["share"], "is listed as extension pending"),
    ],
    ids=["conflicts", "statuses"],
)
def test_the_checker_takes_nobodys_word_for_what_it_can_reckon(
    template: Path, monkeypatch: pytest.MonkeyPatch, real: FunctionType, wrong: FunctionType, scene: Script, told: str
) -> None:
    """Whoever calls the function, the checker as well, gets the wrong answer."""
    monkeypatch.setattr(real, "__code__", wrong.__code__)
    broken = catch(scene, template)
    assert broken and told in broken


@pytest.mark.parametrize("name", VARIANTS)
def test_a_wrong_variant_is_caught(template: Path, name: str) -> None:
    assert find_killer(name, template) is not None, f"nothing notices it: {VARIANTS[name].__doc__}"
