"""Which rep gets a registration, as a pure function with its explanation: the company's owner, who works the deal already (of one that the
vendor brought, that other partners work on, or that was shared before), the rep whom the partner named, a territory or segment match, the
rotation, else the fallback queue.

The rotation is Tijdeman's: of those who are due at all, the one whose turn would be over first. While the same reps are eligible, each
one's count stays within one of their weight's share. A rep who was away keeps the credit of that moment, which is below one turn: no burst
at the return. A territory turns the same wheel with fewer reps: everyone's share is of the turns that they could have been given.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

TURN = 10**9  # one turn's worth of credit: whole numbers replay exactly, and rounding costs a billionth of a turn each time
Method = Literal["owner", "deal_owner", "requested", "territory", "round_robin", "fallback"]


class Rep(NamedTuple):
    """A rep as they stand at the moment of the decision. Dates are YYYY-MM-DD, inclusive; `credit` is what they are owed, in units of
    1 / TURN of a turn; `lapsed`: they had this registration and did not accept it in time."""

    id: int
    person: str
    name: str
    email: str
    active: bool = True
    out_from: str | None = None
    out_until: str | None = None
    weight: int = 1
    cap: int | None = None
    open_deals: int = 0
    territories: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    credit: int = 0
    lapsed: bool = False


class Request(NamedTuple):
    """What the assignment is for: `owner_id` is the company's existing owner, `deal_owner_id` the deal's, `requested` a name or e-mail that
    the partner gave."""

    registration: str
    today: str
    owner_id: int | None = None
    requested: str | None = None
    country: str | None = None
    industry: str | None = None
    deal_owner_id: int | None = None


class Assignment(NamedTuple):
    """The rep's id (None: the fallback queue), how they were found, why, and the rotation's new credits by rep id."""

    rep_id: int | None
    method: Method
    explanation: dict[str, Any]
    credits: dict[int, int]


def assign(reps: Sequence[Rep], request: Request) -> Assignment:
    """Decide. The explanation holds all that the decision was made from: `decide_again` comes to the same rep."""
    ordered = sorted(reps, key=lambda rep: rep.id)
    told: dict[str, Any] = {
        "request": request._asdict(),
        "considered": [consider(rep, request.today) for rep in ordered],
        "steps": [],
    }
    for method, choose in STEPS:
        chosen, why, credits = choose(ordered, request)
        told["steps"].append({"method": method, "chosen": chosen, "why": why})
        if chosen is not None:
            return Assignment(chosen, method, told, credits)
    return Assignment(None, "fallback", told, {})


def consider(rep: Rep, today: str) -> dict[str, Any]:
    """One rep in the explanation: their state, and why the rotation passes them over, if it does."""
    return {**rep._asdict(), "passed_over": passed_over(rep, today)}


def away(rep: Rep, today: str) -> str | None:
    """Why a rep can not take anything today, or None."""
    if not rep.active:
        return "not active"
    if rep.lapsed:
        return "silent: they did not accept it in time"
    if rep.out_from and rep.out_from <= today and (rep.out_until is None or today <= rep.out_until):
        return f"out of office until {rep.out_until or 'further notice'}"
    return None


def passed_over(rep: Rep, today: str) -> str | None:
    """Why the rotation passes a rep over, or None."""
    if reason := away(rep, today):
        return reason
    if rep.cap is not None and rep.open_deals >= rep.cap:
        return f"has {rep.open_deals} open deals of at most {rep.cap}"
    return "has weight 0" if rep.weight <= 0 else None


Choice = tuple[int | None, str, dict[int, int]]


def choose_owner(reps: Sequence[Rep], request: Request) -> Choice:
    """The company's owner keeps their customer, whatever their cap."""
    return choose_known("company", request.owner_id, reps, request.today)


def choose_deal_owner(reps: Sequence[Rep], request: Request) -> Choice:
    """Who works the deal already works it with this partner too."""
    return choose_known("deal", request.deal_owner_id, reps, request.today)


def choose_known(what: str, owner_id: int | None, reps: Sequence[Rep], today: str) -> Choice:
    if owner_id is None:
        return None, f"the {what} has no owner", {}
    owner = next((rep for rep in reps if rep.id == owner_id), None)
    if owner is None:
        return None, f"the {what}'s owner is no rep", {}
    if reason := away(owner, today):
        return None, f"the {what}'s owner {owner.name} is {reason}", {}
    return owner.id, f"{owner.name} owns the {what}", {}


def choose_requested(reps: Sequence[Rep], request: Request) -> Choice:
    """The rep whom the partner named, by e-mail or by name."""
    if not request.requested:
        return None, "the partner named nobody", {}
    wanted = request.requested.strip().casefold()
    named = [rep for rep in reps if wanted in (rep.email.casefold(), rep.name.casefold())]
    if len(named) != 1:
        return None, f"{request.requested!r} is {'no rep' if not named else 'more than one rep'}", {}
    if reason := passed_over(named[0], request.today):
        return None, f"{named[0].name} {reason if reason.startswith('has') else 'is ' + reason}", {}
    return named[0].id, f"the partner asked for {named[0].name}", {}


def choose_territory(reps: Sequence[Rep], request: Request) -> Choice:
    """The rotation among those who have the company's country or industry."""
    matching = [rep for rep in reps if request.country in rep.territories or request.industry in rep.segments]
    if not matching:
        return None, f"nobody has {request.country or 'no country'} or {request.industry or 'no industry'}", {}
    return rotate(matching, request.today, f"has {request.country} or {request.industry}, and the rotation's turn among those who do")


def choose_in_turn(reps: Sequence[Rep], request: Request) -> Choice:
    """The rotation among all who are eligible."""
    return rotate(reps, request.today, "has the rotation's turn")


def rotate(reps: Sequence[Rep], today: str, why: str) -> Choice:
    """Turn the wheel once among the eligible reps; the one chosen, and everyone's new credit."""
    eligible = [rep for rep in reps if passed_over(rep, today) is None]
    if not eligible:
        return None, "nobody is eligible", {}
    total = sum(rep.weight for rep in eligible)
    credits = {rep.id: rep.credit + rep.weight * TURN // total for rep in eligible}
    chosen = next_in_turn(eligible, credits)
    credits[chosen.id] -= TURN
    return chosen.id, f"{chosen.name} {why}", credits


def next_in_turn(eligible: Sequence[Rep], credits: Mapping[int, int]) -> Rep:
    """Of those who are due, the one whose turn would be over first; if nobody is due, the one with most credit. Ties go by id."""
    spread = max(1, 2 * len(eligible) - 2)
    due = [rep for rep in eligible if credits[rep.id] * spread >= TURN]
    if not due:
        return max(eligible, key=lambda rep: (credits[rep.id], -rep.id))
    return min(due, key=lambda rep: (Fraction(TURN * spread - TURN - credits[rep.id] * spread, rep.weight), rep.id))


STEPS: tuple[tuple[Method, Callable[[Sequence[Rep], Request], Choice]], ...] = (
    ("owner", choose_owner),
    ("deal_owner", choose_deal_owner),
    ("requested", choose_requested),
    ("territory", choose_territory),
    ("round_robin", choose_in_turn),
)


def turn_for(reps: Sequence[Rep], request: Request, rep_id: int) -> dict[int, int]:
    """The rotation's new credits by an assignment that is known while its decision is lost: nobody's turn if the rep owned the company or
    was asked for, else one turn of the wheel in which all who have its territory, or all, took part."""
    if rep_id in (choose_owner(reps, request)[0], choose_requested(reps, request)[0]):
        return {}
    matching = [rep for rep in reps if request.country in rep.territories or request.industry in rep.segments]
    wheel = matching if rep_id in {rep.id for rep in matching} else reps
    turning = [rep for rep in wheel if rep.id == rep_id or (rep.active and rep.weight > 0)]
    total = sum(max(rep.weight, 1) for rep in turning)
    credits = {rep.id: rep.credit + max(rep.weight, 1) * TURN // total for rep in turning}
    credits[rep_id] -= TURN
    return credits


def decide_again(explanation: Mapping[str, Any]) -> Assignment:
    """The decision once more, from the state that a stored explanation names."""
    return assign(read_reps(explanation), Request(**explanation["request"]))


def read_reps(explanation: Mapping[str, Any]) -> list[Rep]:
    lists = ("territories", "segments", "languages")
    known = [{name: value for name, value in each.items() if name != "passed_over"} for each in explanation["considered"]]
    return [Rep(**{**each, **{name: tuple(each[name]) for name in lists}}) for each in known]


def forget(explanation: Mapping[str, Any]) -> dict[str, Any]:
    """The explanation without what the deal had told: of the request, only what names a rep or is one's own territory or segment. It leads
    to the same rep. One that a person chose has nothing of the deal in it."""
    if "today" not in explanation["request"]:
        return dict(explanation)
    reps, request = read_reps(explanation), Request(**explanation["request"])
    asked, _, _ = choose_requested(reps, request)
    requested = next((rep.email for rep in reps if rep.id == asked), None)
    country = request.country if any(request.country in rep.territories for rep in reps) else None
    industry = request.industry if any(request.industry in rep.segments for rep in reps) else None
    return assign(reps, request._replace(requested=requested, country=country, industry=industry)).explanation
