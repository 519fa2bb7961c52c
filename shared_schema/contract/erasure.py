"""Who may erase what. An erasure is one-way and absorbing: merging with erased is erased, whatever arrives; so it can not be disputed."""

from shared_schema.contract.registers import Side

PERSONAL_FIELDS = {"registration": frozenset({"contact"})}  # what is erased of a record by itself: a person who is no user of either side


def may_erase(kind: str, side: Side, creator: Side) -> bool:
    """Whether a side may erase a record: any of either's but the policy, and of people only its own."""
    return kind != "policy" and (kind != "person" or side == creator)


def may_erase_fields(kind: str, names: frozenset[str]) -> bool:
    """Whether these fields of a record may be erased alone."""
    return bool(names) and names <= PERSONAL_FIELDS.get(kind, frozenset())
