"""The partnership's policy: who may write a field and which sibling is displayed when there are several.

It is itself a vendor-owned shared record, so display is a function of shared state and the same on both sides. It only chooses what is
shown; it never removes a sibling.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from shared_schema.contract.documents import Document
from shared_schema.contract.records import KINDS, Writer, field_of
from shared_schema.contract.registers import Register, Sibling, Side, latest_first, side_of

DISPLAYS = ("latest", "vendor", "partner")
TERMS = ("preset", "rules", "approval", "capacity", "timers")


class Policy(NamedTuple):
    """What the policy record says, resolved against its preset; `flags` names what this version does not know.
    `accept_hours`: within how many hours an assigned rep must accept, `invitation_days`: within how many days a partner must answer an
    invitation; 0 for no such timer."""

    preset: str = "default"
    approval: str = "auto"
    capacity: int = 100
    protection_days: int = 90
    accept_hours: int = 0
    invitation_days: int = 14
    displays: tuple[tuple[str, str], ...] = ()
    writers: tuple[tuple[str, str], ...] = ()
    hidden: frozenset[str] = frozenset()
    flags: tuple[str, ...] = ()

    def writer(self, kind: str, name: str) -> Writer:
        """Who may write a field; a field that only a newer peer knows is anybody's."""
        ruled = dict(self.writers).get(f"{kind}.{name}")
        field = field_of(kind, name)
        return ruled or (field.writer if field else "both")  # type: ignore[return-value]  # the literals read as str

    def display_rule(self, kind: str, name: str) -> str:
        return find_display(self.displays, kind, name)

    def shows(self, kind: str, name: str) -> bool:
        """Whether the other side's value is shown at all (hubspot-parity hides stages)."""
        return f"{kind}.{name}" not in self.hidden


@lru_cache(maxsize=4096)
def find_display(displays: tuple[tuple[str, str], ...], kind: str, name: str) -> str:
    """How these rules, or else the field itself, say that a field is displayed."""
    field = field_of(kind, name)
    return dict(displays).get(f"{kind}.{name}") or (field.display if field else "latest")


PRESETS: dict[str, Policy] = {
    "default": Policy(),
    "hubspot-parity": Policy(
        preset="hubspot-parity",
        writers=(("deal.name", "creator"),),
        hidden=frozenset({"deal.partner_stage", "deal.vendor_stage"}),
    ),
}


@lru_cache(maxsize=4096)
def may_write(policy: Policy, kind: str, name: str, side: Side, creator: Side) -> bool:
    """Whether a side may write a field of a record that `creator` made."""
    writer = policy.writer(kind, name)
    return writer in ("both", side) or (writer == "creator" and creator == side)


def display(register: Register, rule: str = "latest") -> Sibling | None:
    """The sibling to show: a pure function of state. A side's rule prefers that side's latest; an unknown rule reads *latest*."""
    ordered = latest_first(register.siblings)
    if rule in ("vendor", "partner"):
        preferred = [sibling for sibling in ordered if side_of(sibling.dot.incarnation) == rule]
        ordered = preferred or ordered
    return ordered[0] if ordered else None


def value_of(document: Document, name: str, rule: str = "latest") -> Any:
    """The displayed value of a field, or None if nobody wrote it."""
    shown = display(document.get(name), rule)
    return shown.value if shown else None


def read_policy(document: Document) -> Policy:
    """The policy that a record's registers say."""
    return make_policy({name: value_of(document, name) for name in TERMS})


def make_policy(terms: Mapping[str, Any]) -> Policy:
    """The policy of these terms; what is unknown falls back to the preset and is flagged."""
    flags: list[str] = []
    preset = terms.get("preset") or "default"
    policy = PRESETS.get(preset) if isinstance(preset, str) else None
    if policy is None:
        policy = PRESETS["default"]
        flags.append(f"preset {preset!r} is unknown")
    policy = policy._replace(**read_terms(terms))
    rules = terms.get("rules")
    for name, rule in sorted(rules.items()) if isinstance(rules, dict) else []:
        policy = apply_rule(policy, name, rule, flags)
    return policy._replace(flags=tuple(flags))


def read_terms(terms: Mapping[str, Any]) -> dict[str, Any]:
    """The terms that this version understands."""
    read: dict[str, Any] = {}
    approval, capacity, timers = terms.get("approval"), terms.get("capacity"), terms.get("timers")
    if approval in ("auto", "manual"):
        read["approval"] = approval
    if isinstance(capacity, int) and not isinstance(capacity, bool):
        read["capacity"] = capacity
    for name in ("protection_days", "accept_hours", "invitation_days"):
        if isinstance(timers, dict) and isinstance(timers.get(name), int):
            read[name] = timers[name]
    return read


def apply_rule(policy: Policy, name: str, rule: Any, flags: list[str]) -> Policy:
    """One `kind.field: display` line of the policy."""
    kind, _, field = name.partition(".")
    if kind not in KINDS or field not in KINDS[kind].fields:
        flags.append(f"field {name!r} is unknown")
        return policy
    if rule not in DISPLAYS:
        flags.append(f"rule {rule!r} of {name} is unknown and reads latest")
        rule = "latest"
    return policy._replace(displays=(*policy.displays, (name, rule)))


def check_rules(rules: Any) -> dict[str, str]:
    """The display rules of a policy file; raises ValueError naming the line that is wrong."""
    if not isinstance(rules, dict):
        raise ValueError("rules takes an object of 'kind.field': display")
    for name, rule in rules.items():
        kind, _, field = str(name).partition(".")
        if kind not in KINDS or field not in KINDS[kind].fields:
            raise ValueError(f"{name} is not a shared field")
        if rule not in DISPLAYS:
            raise ValueError(f"{name} takes one of {', '.join(DISPLAYS)}, not {rule!r}")
    return rules
