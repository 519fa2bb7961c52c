"""UUIDs that both sides know. Time and randomness come from the caller, so that the contract stays pure."""

import re
import uuid

UID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
NAME_PATTERN = "^[a-z][a-z0-9_]{0,62}$"  # of kinds and fields, today's and tomorrow's
EPOCH_PATTERN = "^[0-9a-f]{16}$"
CANONICAL = re.compile(UID_PATTERN[1:-1])
PRODUCT_LINES = uuid.UUID("5a1b0d5c-6f0e-5b51-9c0f-1d54c1a7d001")


def make_uid(now_ms: int, bits: int) -> str:
    """A UUIDv7 from a time and 74 random bits."""
    high = (bits >> 62) & 0xFFF
    low = bits & ((1 << 62) - 1)
    return str(uuid.UUID(int=(now_ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low))


def product_uid(registration: str, sku: str) -> str:
    """The uid of a product line: both sides adding the same product name the same record."""
    return str(uuid.uuid5(uuid.UUID(registration), f"product:{sku.strip().casefold()}"))


def deal_uid(registration: str) -> str:
    """The uid of the deal record of a registration."""
    return str(uuid.uuid5(uuid.UUID(registration), "deal"))


def eligibility_uid(registration: str) -> str:
    return str(uuid.uuid5(uuid.UUID(registration), "eligibility"))


def member_uid(registration: str, person: str) -> str:
    return str(uuid.uuid5(uuid.UUID(registration), f"member:{person}"))


def policy_uid(partnership: str) -> str:
    return str(uuid.uuid5(PRODUCT_LINES, f"policy:{partnership}"))


def is_uid(text: str) -> bool:
    """Whether a text is a UUID in its canonical spelling."""
    return CANONICAL.fullmatch(text) is not None


def time_of(uid: str) -> int:
    """When a UUIDv7 was made, by its maker's clock (UTC ms)."""
    return uuid.UUID(uid).int >> 80
