"""The shared record kinds: their fields, what a value must look like, who may write it, and what a deletion does.

One line here is one shared field. A value that does not fit is refused at capture, but merged when it comes from the peer: it is then
only not projected, and flagged.
"""

import re
from collections.abc import Callable, Collection
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from shared_schema.contract.life import DeletionRule
from shared_schema.contract.registers import Side

Writer = Literal["both", "partner", "vendor", "creator"]
DisplayRule = Literal["latest", "vendor", "partner"]

TEXT_MAX = 65_536
LINE_MAX = 500


class InvalidValue(ValueError):
    """A value that the field can not hold; `field` names it and the message says what it takes."""

    def __init__(self, field: str, remedy: str) -> None:
        super().__init__(f"{field} {remedy}")
        self.field = field
        self.remedy = remedy


class Field(NamedTuple):
    """`one_way`: a flag that stays set once anyone set it; two who set it at once have no conflict. `once`: it is written when its record
    is made, and never again."""

    canonical: Callable[[Any], Any]
    writer: Writer = "both"
    display: DisplayRule = "latest"
    one_way: bool = False
    once: bool = False


class Kind(NamedTuple):
    """`made_by`: the side that counts as the maker where either may make the same record, under a uid that both derive."""

    fields: dict[str, Field]
    parent: str | None = None
    deletion: DeletionRule = "delete_wins"
    deleted_by: Writer = "both"
    made_by: Side | None = None


def line(value: Any) -> str | None:
    """One line of text, at most 500 characters, or nothing."""
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > LINE_MAX or "\x00" in value:
        raise ValueError(f"takes text of at most {LINE_MAX} characters, without NUL")
    return value.strip()


def named(value: Any) -> str:
    """One line that may not be empty."""
    text = line(value)
    if not text:
        raise ValueError("may not be empty")
    return text


def text(value: Any) -> str:
    """Rich text of at most 65,536 characters; sanitised where it is entered and again where it is shown."""
    if not isinstance(value, str) or len(value) > TEXT_MAX or "\x00" in value:
        raise ValueError(f"takes text of at most {TEXT_MAX:,} characters, without NUL")
    return value


def decimal(value: Any) -> str:
    """A decimal as text, without exponent or trailing zeros: floats would differ between stores."""
    try:
        if isinstance(value, (float, bool)):
            raise ValueError('takes a decimal as text, for example "1250.50"')
        number = Decimal(value)
        if not number.is_finite() or abs(number) >= Decimal(10) ** 15 or number.as_tuple().exponent < -6:  # type: ignore[operator]  # finite, so its exponent is a number
            raise ValueError("takes a decimal below 10^15 with at most 6 places")
    except (InvalidOperation, TypeError, ValueError) as error:
        raise ValueError(str(error) if isinstance(error, ValueError) else 'takes a decimal as text, for example "1250.50"') from error
    plain = format(number.normalize(), "f")
    return "0" if plain in ("-0", "") else plain


def money(value: Any) -> dict[str, str] | None:
    """An amount with its currency, in one value: two would mix."""
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"amount", "currency"}:
        raise ValueError("takes an amount together with a currency")
    if not isinstance(value["currency"], str) or not re.fullmatch(r"[A-Z]{3}", value["currency"]):
        raise ValueError("takes a currency of three capital letters (ISO 4217), for example EUR")
    return {"amount": decimal(value["amount"]), "currency": value["currency"]}


def day(value: Any) -> str | None:
    """A calendar date, YYYY-MM-DD: a close date is a date, not a time."""
    if value is None:
        return None
    try:
        if isinstance(value, str) and len(value) == 10:
            return date.fromisoformat(value).isoformat()
    except ValueError as error:
        raise ValueError("takes a date such as 2026-11-30") from error
    raise ValueError("takes a date such as 2026-11-30")


def yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("takes true or false")
    return value


def whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**53:
        raise ValueError("takes a whole number")
    return value


def flag(value: Any) -> dict[str, Any]:
    """A one-way flag: an object that says when and by whom; once set it stays."""
    return parts()(value)


def parts(*required: str) -> Callable[[Any], dict[str, Any]]:
    """A small flat object of text, numbers and booleans that names at least `required`."""

    def canonical(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ValueError("takes an object")
        if missing := [name for name in required if not value.get(name)]:
            raise ValueError(f"needs {', '.join(missing)}")
        for name, part in value.items():
            if not isinstance(part, str | int | bool | None) or (isinstance(part, str) and (len(part) > LINE_MAX or "\x00" in part)):
                raise ValueError(f"takes plain values of at most {LINE_MAX} characters, without NUL; {name} is not one")
        return {name: part for name, part in value.items() if part is not None}

    return canonical


def life(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("state") not in ("alive", "deleted"):
        raise ValueError("takes {'state': 'alive'} or a deletion with what it had seen")
    return value


def anything(value: Any) -> Any:
    return value


KINDS: dict[str, Kind] = {
    "policy": Kind(
        {
            "preset": Field(named, "vendor"),
            "rules": Field(anything, "vendor"),
            "approval": Field(named, "vendor"),
            "capacity": Field(whole, "vendor"),
            "timers": Field(parts(), "vendor"),
        },
        deleted_by="vendor",
    ),
    "registration": Kind(
        {
            "initiated_by": Field(named, "creator", once=True),
            "domain": Field(line, "creator", once=True),
            "intro_note": Field(text, "creator"),
            "pain": Field(text, "creator"),
            "next_steps": Field(text, "creator"),
            "company": Field(parts("name"), "creator", once=True),
            "contact": Field(parts(), "creator", once=True),
            "previous": Field(line, "creator", once=True),
            "requested_rep": Field(line, "partner"),
            "submission": Field(parts("at"), "creator"),
            "invitation": Field(parts("at"), "vendor"),
            "withdrawal": Field(parts("at"), "partner"),
            "answer": Field(parts("answer"), "partner"),
            "extension": Field(parts("at"), "partner"),
            "decision": Field(parts("decision"), "vendor"),
            "duplicate": Field(parts("said"), "vendor"),
            "expires": Field(day, "vendor"),
            "rep": Field(parts("person"), "vendor"),
            "unshared": Field(flag, one_way=True),
            "partner_left": Field(parts("at"), "partner"),
            "vendor_left": Field(parts("at"), "vendor"),
            "partner_merged": Field(parts("with", "at"), "partner"),
            "vendor_merged": Field(parts("with", "at"), "vendor"),
            "partner_company_merged": Field(parts("with", "at"), "partner"),
            "vendor_company_merged": Field(parts("with", "at"), "vendor"),
            "partner_contact_merged": Field(parts("with", "at"), "partner"),
            "vendor_contact_merged": Field(parts("with", "at"), "vendor"),
        },
    ),
    "deal": Kind(
        {
            "name": Field(named),
            "amount": Field(money),
            "close_date": Field(day, "both", "vendor"),
            "next_step": Field(line),
            "partner_stage": Field(parts("pipeline", "stage"), "partner"),
            "vendor_stage": Field(parts("pipeline", "stage"), "vendor"),
        },
        parent="registration",
        deletion="contest",
    ),
    "note": Kind({"body": Field(text, "creator")}, parent="registration", deleted_by="creator"),
    "comment": Kind({"body": Field(text, "creator")}, parent="note", deleted_by="creator"),
    "product": Kind(
        {"sku": Field(named), "name": Field(named), "quantity": Field(decimal)},
        parent="registration",
        deletion="add_wins",
        made_by="vendor",
    ),
    "quote": Kind(
        {
            "number": Field(named, "vendor"),
            "title": Field(line, "vendor"),
            "total": Field(money, "vendor"),
            "status": Field(named, "vendor"),
            "expires": Field(day, "vendor"),
        },
        parent="registration",
        deleted_by="vendor",
    ),
    "eligibility": Kind(
        {"eligible": Field(yes_or_no, "vendor"), "rate": Field(decimal, "vendor"), "reason": Field(line, "vendor")},
        parent="registration",
        deleted_by="vendor",
    ),
    "member": Kind(
        {"person": Field(named, "creator"), "role": Field(line, "creator")},
        parent="registration",
        deleted_by="creator",
    ),
    "person": Kind(
        {"name": Field(named, "creator"), "role": Field(line, "creator"), "active": Field(yes_or_no, "creator")},
        deleted_by="creator",
    ),
}

# What both sides keep the same of a deal. Each has a column of its own name in the CRM; an amount has one for its currency, too.
DEAL_FIELDS = tuple(name for name, field in KINDS["deal"].fields.items() if field.writer == "both")
PLAIN_DEAL_FIELDS = tuple(name for name in DEAL_FIELDS if name != "amount")
LIFE_FIELD = Field(life, one_way=True)


@lru_cache(maxsize=4096)
def field_of(kind: str, name: str) -> Field | None:
    """The definition of a field, or None for one that only a newer peer knows."""
    known = KINDS.get(kind)
    if known is None:
        return None
    if name == "life":
        return LIFE_FIELD._replace(writer=known.deleted_by)
    return known.fields.get(name)


def canonical_value(kind: str, name: str, value: Any) -> Any:
    """The canonical form of a value to be written; raises InvalidValue with the remedy."""
    field = field_of(kind, name)
    if field is None:
        raise InvalidValue(name, f"is not a field of a {kind}")
    try:
        return field.canonical(value)
    except ValueError as error:
        raise InvalidValue(name, str(error)) from error


def is_valid(kind: str, name: str, value: Any) -> bool:
    """Whether a value can be projected into columns here; unknown fields can not."""
    try:
        canonical_value(kind, name, value)
    except InvalidValue:
        return False
    return True


def is_one_way(kind: str, name: str) -> bool:
    """Whether several siblings of this field are no conflict: flags, and life, whose conflict is the contested state."""
    field = field_of(kind, name)
    return field is not None and field.one_way


def is_written_once(kind: str, name: str) -> bool:
    """Whether this field is settled when its record is made."""
    field = field_of(kind, name)
    return field is not None and field.once


def known_fields(kind: str) -> Collection[str]:
    """The fields that this version knows of a kind."""
    known = KINDS.get(kind)
    return known.fields if known else ()


def deletion_rule(kind: str) -> DeletionRule:
    """What a deletion does to a kind; unknown kinds of a newer peer are deleted as a note is."""
    known = KINDS.get(kind)
    return known.deletion if known else "delete_wins"


def is_made_by_either(kind: str) -> bool:
    """Whether both sides may make the same record of this kind."""
    return kind in KINDS and KINDS[kind].made_by is not None
