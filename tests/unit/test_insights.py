"""The sums of the statistics come out the same in whatever order both topics are read, and are what one would count by hand."""

import asyncio
import gc
import subprocess
import sys
import weakref
from itertools import count
from random import Random
from typing import Any

import pytest

from deploy.kafka.embedded import free_port
from shared_schema.contract.codec import Event, EventData, Outcome, format_time
from shared_schema.contract.envelope import Acknowledgement, EpochAcknowledgement
from shared_schema.contract.identifiers import make_uid
from shared_schema.contract.registers import Side
from shared_schema.sync.insights import insights
from shared_schema.sync.insights.figures import summarise
from shared_schema.sync.insights.insights import Insights
from shared_schema.sync.insights.quantiles import Spread, bucket_of, middle_of, quantile
from shared_schema.sync.insights.statistics import MINUTE_MS, REGISTRATION_MS, Statistics
from shared_schema.sync.transport import BrokerUnavailable

BEGIN = """
import asyncio, sys
from shared_schema.sync.insights.follower import Follower
from shared_schema.sync.security import PLAINTEXT
from shared_schema.sync.transport import BrokerUnavailable

async def begin():
    follower = Follower(sys.argv[1], PLAINTEXT, "insights-vendor.0", ["dealbridge.a.from-vendor"], lambda seen: None)
    try:
        await follower.start()
    except BrokerUnavailable as error:
        print("waits:", error)
    finally:
        await follower.stop()

asyncio.run(begin())
"""

NOW_MS = 29_840_000 * MINUTE_MS + 30_000
EPOCH = "0123456789abcdef"
DEAL, OTHER = make_uid(NOW_MS, 1), make_uid(NOW_MS, 2)
bits = count(100)


class Knot:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


Taken = tuple[Side, Event | Acknowledgement, int]


def event(type_: str, ago_ms: int, registration: str | None = DEAL, outcomes: tuple[Outcome, ...] = ()) -> Event:
    return Event(
        id=make_uid(NOW_MS - ago_ms, next(bits)),
        source="/acme",
        type=type_,
        subject="acme",
        time=format_time(NOW_MS - ago_ms),
        partnership="acme",
        registration=registration,
        stamp=(NOW_MS - ago_ms, 0),
        data=EventData(outcomes=outcomes),
    )


def conflict(of: Event, ago_ms: int) -> Event:
    return event("outcome.reported", ago_ms, outcomes=(Outcome(of.id, "conflict", "both sides changed it", field="amount"),))


def acknowledgement(watermark: int, ago_ms: int) -> Acknowledgement:
    reached = {EPOCH: EpochAcknowledgement(watermark=watermark)}
    return Acknowledgement(partnership="acme", sent_ms=NOW_MS - ago_ms, epochs=reached)


def take(taken: list[Taken]) -> Statistics:
    statistics = Statistics()
    statistics.forget(NOW_MS)
    for sender, each, number in taken:
        if isinstance(each, Acknowledgement):
            statistics.take_acknowledgement("acme", sender, each)
        else:
            statistics.take_event("acme", sender, each, (EPOCH, number))
    statistics.forget(NOW_MS)
    return statistics


def make_story() -> dict[Side, list[Taken]]:
    """Both topics, each in its own order."""
    edit, late = event("deal.changed", 120_000), event("deal.changed", 1_000, OTHER)
    partner: list[Taken] = [
        ("partner", event("deal.shared", 300_000), 1),
        ("partner", edit, 2),
        ("partner", edit, 3),  # published twice
        ("partner", event("note.added", 60_000), 4),
        ("partner", late, 5),
    ]
    vendor: list[Taken] = [
        ("vendor", acknowledgement(1, 299_000), 0),
        ("vendor", event("registration.decided", 290_000), 1),
        ("vendor", conflict(edit, 119_000), 2),
        ("vendor", acknowledgement(3, 119_900), 0),
        ("vendor", event("note.added", 100_000), 3),
        ("vendor", acknowledgement(4, 59_950), 0),
        ("vendor", acknowledgement(4, 50_000), 0),  # a heartbeat's answer says nothing new
    ]
    return {"partner": partner, "vendor": vendor}


def weave(topics: dict[Side, list[Taken]], random: Random) -> list[Taken]:
    """Each topic in its order, the two in any."""
    left, woven = [list(each) for each in topics.values()], []
    while any(left):
        woven.append(random.choice([each for each in left if each]).pop(0))
    return woven


def test_the_figures_are_what_one_counts_by_hand() -> None:
    told = summarise(take(weave(make_story(), Random(1))), ["acme"], NOW_MS)["partnerships"]["acme"]
    assert {type_: each["count"] for type_, each in told["events"].items()} == {
        "deal.changed": 2,
        "deal.shared": 1,
        "note.added": 2,
        "outcome.reported": 1,
        "registration.decided": 1,
    }
    assert (told["edits"], told["edits_that_met_a_conflict"]) == (2, 1)
    assert told["busiest_deals"] == [{"registration": DEAL, "events": 5}, {"registration": OTHER, "events": 1}]
    assert told["time_to_decision"] == {"total": 1, "p50_ms": 10_000, "p90_ms": 10_000}
    assert told["time_to_first_reply"] == {"total": 1, "p50_ms": 200_000, "p90_ms": 200_000}
    lags = {each["kind"]: each for each in told["lag"]}
    assert {kind: each["count"] for kind, each in lags.items()} == {
        "deal": 2,
        "note": 1,
    }  # the last edit is still on its way
    assert lags["note"]["p50_ms"] == pytest.approx(50, rel=0.03) and lags["deal"]["p99_ms"] == pytest.approx(1_000, rel=0.03)
    assert {each["direction"] for each in told["lag"]} == {"to_vendor"}


@pytest.mark.parametrize("seed", range(20))
def test_the_order_in_which_both_topics_are_read_does_not_matter(seed: int) -> None:
    story = make_story()
    first = summarise(take(weave(story, Random(0))), ["acme"], NOW_MS)
    assert summarise(take(weave(story, Random(seed))), ["acme"], NOW_MS) == first


def test_a_window_holds_whole_minutes_and_what_is_out_of_it_is_forgotten() -> None:
    statistics = take([("partner", event("deal.changed", ago), place) for place, ago in enumerate((1_000, 90_000, 3_700_000), start=1)])
    counts = [summarise(statistics, ["acme"], NOW_MS, minutes)["partnerships"]["acme"]["edits"] for minutes in (1, 2, 60)]
    assert counts == [1, 2, 2]
    later = NOW_MS + 61 * MINUTE_MS
    statistics.forget(later)
    assert summarise(statistics, ["acme"], later)["partnerships"]["acme"]["events"] == {} and not statistics.minutes


def test_a_registration_is_followed_for_a_week_whoever_began_it() -> None:
    invited = event("registration.invited", 50_000, OTHER)
    taken: list[Taken] = [("vendor", invited, 1), ("partner", event("registration.answered", 20_000, OTHER), 1)]
    statistics = take([*taken, ("partner", event("deal.shared", REGISTRATION_MS + 1), 2)])
    told = summarise(statistics, ["acme"], NOW_MS)["partnerships"]["acme"]
    assert (told["registrations"], told["time_to_decision"]["p50_ms"], told["time_to_first_reply"]["total"]) == (1, 30_000, 0)


@pytest.mark.parametrize("ms", [0, 1, 7, 50, 999, 60_000, 86_400_000])
def test_a_bucket_stands_for_its_times_to_a_fortieth(ms: int) -> None:
    assert middle_of(bucket_of(ms)) == pytest.approx(ms, rel=0.026, abs=0.5)


def test_quantiles_of_few_and_of_many() -> None:
    assert Spread.of([5, 1, 4, 2, 3]) == (5, 3, 5) and Spread.of([]) == (0, None, None)
    assert quantile({1: 98, 40: 2}, 0.5) == middle_of(1) and quantile({1: 98, 40: 2}, 0.99) == middle_of(40)
    assert quantile({}, 0.5) is None


def test_what_claims_to_be_of_another_age_takes_no_room() -> None:
    ages: list[Taken] = [("partner", event("deal.changed", -days * 86_400_000), days) for days in range(2, 400)]
    assert not take(ages).minutes


def test_a_broker_that_is_away_when_the_statistics_begin_is_waited_for() -> None:
    """It is an outage, and no bug of ours that would end the process; in one of its own, for faust leaves a loop behind."""
    done = subprocess.run([sys.executable, "-c", BEGIN, f"127.0.0.1:{free_port()}"], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("waits: faust can not begin"), done.stderr[-2_000:]


async def test_what_reconnecting_leaves_behind_is_freed_while_the_broker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS it is 256 kB a try, in reference cycles, thirty times a second: hundreds of megabytes before Python looks by itself."""
    left: list[weakref.ref[Knot]] = []
    freed: list[bool] = []

    class AwayInsights(Insights):
        async def find_topics(self) -> Any:
            freed.extend(each() is None for each in left)
            if len(left) == 2:
                raise asyncio.CancelledError
            left.append(weakref.ref(Knot()))
            raise BrokerUnavailable("it is away")

    monkeypatch.setattr(insights, "LOOK_S", 0)
    gc.disable()
    try:
        with pytest.raises(asyncio.CancelledError):
            await AwayInsights(None, lambda _: None).look_on(Statistics(), [], {})
    finally:
        gc.enable()
    assert freed == [True] * 3
