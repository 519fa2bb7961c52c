"""The house rules hold for every file, and each rule notices the thing that it forbids."""

import pytest

from tests.architecture.house import RULES, Rule, Source, sources

BAD_EXAMPLES = {
    "modules_are_short": Source("shared_schema/web/long.py", "x = 1\n" * 400),
    "functions_are_short": Source("tests/unit/test_long.py", "def grow():\n" + "    x = 1\n" * 51),
    "parameters_are_few": Source("partner_node/wide.py", "def wide(a, b, c, d, *, e, f, g): ...\n"),
    "names_say_something": Source("vendor_node/deal_utils.py", ""),
    "names_are_given_once": Source("shared_schema/sync/twice.py", "OWING = 1\nOWING = 2\n"),
    "one_place_commits": Source("shared_schema/sync/relay.py", "async def mark(tx):\n    await tx.commit()\n"),
    "one_place_reads_the_clock": Source("shared_schema/sync/relay.py", "from time import monotonic\n"),
    "one_place_knows_kafka": Source("shared_schema/sync/relay.py", "from aiokafka.errors import KafkaError\n"),
    "one_place_knows_faust": Source("shared_schema/sync/relay.py", "from shared_schema.sync import insights\n"),
    "apply_never_captures": Source("shared_schema/sync/apply.py", "from shared_schema.sync import capture\n"),
    "exceptions_have_reasons": Source("shared_schema/web/api.py", "import this  # noqa: F401\n"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule: Rule) -> None:
    broken = [f"{source.path}:{line}: {message}" for source in sources() for line, message in rule(source)]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_notices_what_it_forbids(rule: Rule) -> None:
    assert list(rule(BAD_EXAMPLES[rule.__name__]))


def test_a_reason_beside_an_exception_is_enough() -> None:
    text = "value = load()  # type: ignore[no-any-return]  # the library does not say what it returns\n"
    assert not [line for rule in RULES for line in rule(Source("shared_schema/web/api.py", text))]


def test_time_from_the_metrics_is_allowed_for_durations_alone() -> None:
    allowed = Source("shared_schema/sync/metrics.py", "from time import perf_counter\n")
    assert not [line for rule in RULES for line in rule(allowed)]
