"""Questions about usage: which requests, and what they are told apart by."""

import math
from enum import StrEnum

import msgspec

from registry.state import UsageRecord


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


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it is kept. (*closed_at*, *id*) is its place in the order of export."""

    id: int
    record: UsageRecord

    @property
    def place(self) -> tuple[float, int]:
        return (self.record.closed_at, self.id)
