"""What a syncing process keeps to: thresholds and schedules, from the settings."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Per partnership: how many records may be parked since the stream was last resumed, and within a minute; how many unacknowledged
    outbox rows are kept; after how many minutes both sides are compared again (0 for never); how many days histories are kept (0 for
    ever); and how many records may be parked, since the stream was last resumed, that only wait for something."""

    parked_max: int = 1_000
    parked_per_minute: int = 100
    outbox_max: int = 200_000
    verify_minutes: int = 0
    keep_days: int = 0
    waiting_max: int = 100_000
