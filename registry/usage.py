"""What requests used, and the questions about it: which, and what they are told apart by."""

import math
from enum import StrEnum

import msgspec


class UsageBy(StrEnum):
    KEY = "key"
    MODEL = "model"
    DAY = "day"


class UsageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that ended at *since* <= t < *until* (seconds since the epoch), of one key and of
    one model; "" is all of them.
    """

    since: float = -math.inf
    until: float = math.inf
    key_id: str = ""
    model: str = ""


ALL_USAGE = UsageFilter()


class UsageStatus(StrEnum):
    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    SWEPT = "swept"  # its gateway process died under it; what it had answered is not known


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One request that was let in. *operation* is what it asked for, as in ``chat.completions``."""

    request_id: str
    key_id: str
    model: str
    variant: str
    revision: int
    mode: str
    status: UsageStatus
    prompt_tokens: int
    completion_tokens: int
    opened_at: float
    closed_at: float
    operation: str = ""
    cost_nano: int = 0


class UsageTotal(msgspec.Struct, frozen=True, kw_only=True):
    """Usage summed over requests of one key, model and *day* (``2026-11-26``, in UTC, by when they
    ended); what it was not told apart by is empty.
    """

    key_id: str = ""
    model: str = ""
    day: str = ""
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cost_nano: int


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it is kept. (*closed_at*, *id*) is its place in the order of export."""

    id: int
    record: UsageRecord

    @property
    def place(self) -> tuple[float, int]:
        return (self.record.closed_at, self.id)
