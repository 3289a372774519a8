"""Keys, and what they may use."""

import math
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec

from registry.state.access import AccessRole
from registry.state.value import Value


class KeyKind(StrEnum):
    """Which listener a key opens: they are separate, and neither opens the other."""

    INFERENCE = "inference"
    ADMIN = "admin"


class Priority(StrEnum):
    """Whose request leaves a model's queue first. Says nothing where nothing queues."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 goes first."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}


NANO = 1_000_000_000  # parts of a unit of currency: what money is counted in, exactly


class BudgetWindow(msgspec.Struct, frozen=True):
    """One day, month or all time: times *begins_at* <= t < *ends_at*; *name* as in ``2026-11``."""

    name: str
    begins_at: float
    ends_at: float


class BudgetPeriod(StrEnum):
    """When a budget starts anew: with each day or month, in UTC, or never."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"

    def window(self, at: float) -> BudgetWindow:
        """The one that the time *at* lies in."""
        if self is BudgetPeriod.TOTAL:
            return BudgetWindow("total", -math.inf, math.inf)
        first = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self is BudgetPeriod.DAY:
            name, last = f"{first:%Y-%m-%d}", first + timedelta(days=1)
        else:
            first = first.replace(day=1)
            name, last = f"{first:%Y-%m}", (first + timedelta(days=32)).replace(day=1)
        return BudgetWindow(name, first.timestamp(), last.timestamp())


class KeyLimits(Value, frozen=True, kw_only=True):
    """What a key may use at most, over all gateway processes; 0 is no limit.

    *tokens_per_minute* are prompt and answer together; *in_flight* requests at once; *budget_nano*
    what its tokens may cost in a *budget_period*, by the prices of the models.
    """

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    in_flight: int = 0
    budget_nano: int = 0
    budget_period: BudgetPeriod = BudgetPeriod.MONTH


NO_KEY_LIMITS = KeyLimits()


class Key(Value, frozen=True, kw_only=True):
    """An API key's public part. *role* is what an admin key may do. *digest* is the SHA-256 of the
    whole secret; *old_digest* that of the secret before the last rotation, good until
    *old_expires_at*.
    """

    id: str
    name: str
    kind: KeyKind
    digest: bytes
    models: tuple[str, ...]  # empty = all
    role: AccessRole = AccessRole.ADMIN
    priority: Priority = Priority.NORMAL
    limits: KeyLimits = NO_KEY_LIMITS
    spent_nano: int = 0  # in its budget's present period, as far as the registry knows
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    old_digest: bytes | None = None
    old_expires_at: float | None = None

    def __repr__(self) -> str:  # digests are nobody's business
        return f"<Key {self.id}>"
