"""Who gets a registration, and why: the order of the steps, fair turns, and explanations that can be decided again."""

from collections import Counter
from random import Random

import pytest

from vendor_node.assignment import TURN, Assignment, Rep, Request, assign, decide_again, turn_for

TODAY = "2026-11-24"


def make_rep(number: int, **settings: object) -> Rep:
    return Rep(number, f"person-{number}", f"Rep {number}", f"rep{number}@vendor.example", **settings)  # type: ignore[arg-type]  # settings of a Rep


def ask(**wanted: object) -> Request:
    return Request("registration", TODAY, **wanted)  # type: ignore[arg-type]  # parts of a Request


def turn(reps: list[Rep], request: Request) -> tuple[list[Rep], Assignment]:
    """One assignment, and the reps as they stand after it."""
    decided = assign(reps, request)
    again = decide_again(decided.explanation)
    assert (again.rep_id, again.method, again.credits) == (decided.rep_id, decided.method, decided.credits)
    after = [
        rep._replace(credit=decided.credits.get(rep.id, rep.credit), open_deals=rep.open_deals + (rep.id == decided.rep_id)) for rep in reps
    ]
    return after, decided


STEPS = [
    ({"owner_id": 2, "requested": "Rep 1"}, {}, "owner", 2),
    ({"owner_id": 2}, {2: {"cap": 0}}, "owner", 2),
    ({"owner_id": 2, "requested": "REP1@vendor.example "}, {2: {"out_from": TODAY}}, "requested", 1),
    ({"owner_id": 9, "requested": "rep 3"}, {}, "requested", 3),
    ({"owner_id": 2, "deal_owner_id": 3}, {}, "owner", 2),
    ({"deal_owner_id": 3, "requested": "Rep 1"}, {3: {"cap": 0}}, "deal_owner", 3),
    ({"deal_owner_id": 3, "requested": "Rep 1"}, {3: {"lapsed": True}}, "requested", 1),
    ({"requested": "Nobody", "country": "DE"}, {3: {"territories": ("DE",)}}, "territory", 3),
    ({"requested": "Rep 1", "industry": "Energy"}, {1: {"cap": 0}, 2: {"segments": ("Energy",)}}, "territory", 2),
    ({"country": "DE"}, {1: {"territories": ("DE",), "active": False}}, "round_robin", 2),
    ({}, {1: {"out_from": "2026-11-01", "out_until": "2026-11-24"}}, "round_robin", 2),
    ({}, {1: {"out_from": "2026-11-25"}}, "round_robin", 1),
    ({}, {1: {"out_until": "2026-11-23", "out_from": "2026-11-01"}}, "round_robin", 1),
    ({}, {1: {"weight": 0}, 2: {"cap": 3, "open_deals": 3}}, "round_robin", 3),
    ({}, {1: {"active": False}, 2: {"active": False}, 3: {"weight": 0}}, "fallback", None),
]


@pytest.mark.parametrize(("wanted", "settings", "method", "rep_id"), STEPS)
def test_the_first_step_that_finds_somebody_decides(
    wanted: dict[str, object], settings: dict[int, dict[str, object]], method: str, rep_id: int | None
) -> None:
    reps = [make_rep(number, **settings.get(number, {})) for number in (1, 2, 3)]
    _, decided = turn(reps, ask(**wanted))
    assert (decided.method, decided.rep_id) == (method, rep_id)
    last = decided.explanation["steps"][-1]
    assert last["chosen"] == rep_id and last["why"]


def test_two_reps_of_one_name_are_nobody() -> None:
    reps = [make_rep(1)._replace(name="Kim"), make_rep(2)._replace(name="Kim")]
    _, decided = turn(reps, ask(requested="kim"))
    assert decided.method == "round_robin"
    assert "more than one rep" in next(each["why"] for each in decided.explanation["steps"] if each["method"] == "requested")


def test_everybody_passed_over_has_a_reason() -> None:
    reps = [make_rep(1, active=False), make_rep(2, out_from=TODAY, out_until="2026-12-01"), make_rep(3, cap=2, open_deals=2), make_rep(4)]
    told = [each["passed_over"] for each in assign(reps, ask()).explanation["considered"]]
    assert told == ["not active", "out of office until 2026-12-01", "has 2 open deals of at most 2", None]


@pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1), (3, 2, 1), (7, 1, 1, 1), (1000, 1), (5, 5, 4, 3, 2, 1)])
def test_while_the_same_are_eligible_counts_stay_within_one_of_every_share(weights: tuple[int, ...]) -> None:
    reps = [make_rep(number, weight=weight) for number, weight in enumerate(weights, 1)]
    counts: Counter[int | None] = Counter()
    for done in range(1, 1_500):
        reps, decided = turn(reps, ask())
        counts[decided.rep_id] += 1
        for number, weight in enumerate(weights, 1):
            assert abs(counts[number] - done * weight / sum(weights)) < 1


def test_a_rep_who_returns_gets_their_share_and_no_burst() -> None:
    reps = [make_rep(1), make_rep(2), make_rep(3, out_from=TODAY)]
    for _ in range(100):
        reps, _ = turn(reps, ask())
    reps[2] = reps[2]._replace(out_from=None)
    order = []
    for _ in range(30):
        reps, decided = turn(reps, ask())
        order.append(decided.rep_id)
    assert Counter(order) == {1: 10, 2: 10, 3: 10}
    assert all(order[place : place + 3].count(3) <= 2 for place in range(28))


def test_with_people_coming_and_going_everybody_gets_their_share_of_the_turns_they_could_have_had() -> None:
    random = Random(11)
    weights = {1: 3, 2: 2, 3: 1, 4: 2, 5: 1}
    reps = [make_rep(number, weight=weight) for number, weight in weights.items()]
    reps[3] = reps[3]._replace(territories=("CH",))
    reps[4] = reps[4]._replace(territories=("CH",), cap=60)
    counts: Counter[int | None] = Counter()
    shares = dict.fromkeys(weights, 0.0)
    for _ in range(2_000):
        away = random.choice((1, 2, 3, None, None))
        reps = [rep._replace(out_from=TODAY if rep.id == away else None) for rep in reps]
        reps, decided = turn(reps, ask(country=random.choice(("CH", "DE", "FR"))))
        wheel = [rep for rep in decided.explanation["considered"] if rep["passed_over"] is None]
        if decided.method == "territory":
            wheel = [rep for rep in wheel if rep["territories"]]
        for rep in wheel:
            shares[rep["id"]] += rep["weight"] / sum(each["weight"] for each in wheel)
        counts[decided.rep_id] += 1
    assert counts[5] <= 60
    for number, weight in weights.items():
        assert abs(counts[number] - shares[number]) <= max(1, weight), number
        assert abs(reps[number - 1].credit) <= TURN * max(1, weight)


def test_an_assignment_that_came_back_turns_the_wheel_as_the_lost_decision_did() -> None:
    reps = [make_rep(number, weight=number) for number in (1, 2, 3)]
    for _ in range(30):
        after, decided = turn(reps, ask())
        assert decided.rep_id is not None
        assert {rep.id: rep.credit for rep in after} == turn_for(reps, ask(), decided.rep_id)
        reps = after


def test_an_assignment_that_came_back_by_right_or_by_territory_turns_no_other_wheel() -> None:
    reps = [make_rep(1, territories=("DE",)), make_rep(2, territories=("DE",)), make_rep(3)]
    assert turn_for(reps, ask(owner_id=3), 3) == {}
    assert turn_for(reps, ask(requested="Rep 3"), 3) == {}
    assert turn_for(reps, ask(country="DE"), 1) == {1: TURN // 2 - TURN, 2: TURN // 2}
