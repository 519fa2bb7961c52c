"""The policy: who may write, which sibling is shown, and that what is unknown falls back and is flagged."""

import pytest

from shared_schema.contract.policy import check_rules, display, make_policy, may_write
from shared_schema.contract.registers import Dot, Register, Sibling, Stamp


def sibling(incarnation: str, physical: int, logical: int = 0) -> Sibling:
    return Sibling(Dot(incarnation, 1), Stamp(physical, logical), None, incarnation)


WRITERS = [
    ("default", "deal.name", {"partner": True, "vendor": True}),
    ("default", "deal.vendor_stage", {"partner": False, "vendor": True}),
    ("default", "registration.withdrawal", {"partner": True, "vendor": False}),
    ("default", "registration.decision", {"partner": False, "vendor": True}),
    ("default", "note.body", {"partner": True, "vendor": False}),
    ("default", "deal.of_tomorrow", {"partner": True, "vendor": True}),
    ("hubspot-parity", "deal.name", {"partner": True, "vendor": False}),
    ("hubspot-parity", "deal.amount", {"partner": True, "vendor": True}),
]


@pytest.mark.parametrize(("preset", "field", "allowed"), WRITERS)
def test_who_may_write_what_a_partner_made(preset: str, field: str, allowed: dict[str, bool]) -> None:
    policy, (kind, _, name) = make_policy({"preset": preset}), field.partition(".")
    assert {side: may_write(policy, kind, name, side, "partner") for side in ("partner", "vendor")} == allowed


@pytest.mark.parametrize(
    ("rule", "shown"),
    [("latest", "v-b"), ("vendor", "v-b"), ("partner", "p-a"), ("by the moon", "v-b")],
)
def test_which_of_two_values_is_shown(rule: str, shown: str) -> None:
    register = Register({"p-a": 1, "v-b": 1}, (sibling("p-a", 5), sibling("v-b", 5, 1)))
    found = display(register, rule)
    assert found is not None and found.value == shown


def test_a_side_without_a_value_leaves_the_latest() -> None:
    found = display(Register({"p-a": 1}, (sibling("p-a", 5),)), "vendor")
    assert found is not None and found.value == "p-a"
    assert display(Register({}, ()), "latest") is None


def test_what_a_policy_does_not_know_is_flagged_and_harmless() -> None:
    policy = make_policy({"preset": "future", "capacity": "many", "approval": "dice", "rules": {"deal.name": "moon", "deal.x": "latest"}})
    assert (policy.preset, policy.capacity, policy.approval) == ("default", 100, "auto")
    assert policy.display_rule("deal", "name") == "latest" and policy.display_rule("deal", "close_date") == "vendor"
    assert len(policy.flags) == 3
    assert not make_policy({"preset": "hubspot-parity"}).shows("deal", "vendor_stage")


@pytest.mark.parametrize("rules", [[], {"deal.x": "latest"}, {"x": "latest"}, {"deal.name": "moon"}])
def test_a_policy_file_with_a_wrong_rule_is_not_taken(rules: object) -> None:
    with pytest.raises(ValueError, match=r"rules|shared field|takes one of"):
        check_rules(rules)
    assert check_rules({"deal.name": "vendor"}) == {"deal.name": "vendor"}
