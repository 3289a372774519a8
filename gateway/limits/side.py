"""One side of a request, its key's or its model's: what it has room for, or lacks."""

from gateway.limits.account import Account
from gateway.limits.shortage import Shortage, of_budget, of_in_flight, of_requests, of_tokens
from gateway.limits.window import room_in_s
from registry.spec import Limits
from registry.state import BudgetPeriod, KeyLimits


class Side:
    """*account* must be open when anything is asked. A *budget_nano* of 0 is none."""

    __slots__ = (
        "account",
        "budget_nano",
        "in_flight_most",
        "kind",
        "limits",
        "name",
        "period",
        "requests_most",
        "tokens_most",
    )

    def __init__(
        self,
        account: Account,
        limits: KeyLimits | Limits,
        kind: str,
        name: str,
        *,
        budget_nano: int = 0,
        period: BudgetPeriod = BudgetPeriod.TOTAL,
    ) -> None:
        self.account = account
        self.limits = limits  # what it was made of
        self.kind = kind
        self.name = name
        self.requests_most = limits.requests_per_minute
        self.tokens_most = limits.tokens_per_minute
        self.in_flight_most = limits.in_flight
        self.budget_nano = budget_nano
        self.period = period

    def fits(self, tokens: int, cost_nano: int) -> bool:
        """Whether a request fits that sets so much aside. What costs nothing needs no budget."""
        account = self.account
        return account.has_room(
            self.requests_most, self.tokens_most, tokens, self.in_flight_most
        ) and (
            not cost_nano
            or account.spent_nano + account.reserved_nano + cost_nano <= self.budget_nano
        )

    def requests_left(self) -> int | None:
        """None where they are not limited."""
        return max(0, self.requests_most - self.account.requests) if self.requests_most else None

    def tokens_left(self) -> int | None:
        return max(0, self.tokens_most - self.account.tokens) if self.tokens_most else None

    def shortages(
        self, tokens: int, cost_nano: int, now: float, ends_in_s: float
    ) -> list[Shortage]:
        """Why it does not fit; *ends_in_s* is when the budget starts anew."""
        account, whose = self.account, f"The {self.kind} {self.name!r}"
        found = []
        most, used = self.requests_most, account.requests
        if most and used >= most:
            wait_s = room_in_s(account.request_buckets, account.second, now, used + 1 - most)
            found.append(of_requests(whose, most, wait_s))
        most, used = self.tokens_most, account.tokens
        if most and used + tokens > most:
            wait_s = room_in_s(account.token_buckets, account.second, now, used + tokens - most)
            found.append(of_tokens(whose, most, used, tokens, wait_s))
        if self.in_flight_most and account.in_flight >= self.in_flight_most:
            found.append(of_in_flight(whose, self.in_flight_most))
        spent, budget = account.spent_nano, self.budget_nano
        if cost_nano and spent + account.reserved_nano + cost_nano > budget:
            found.append(of_budget(whose, budget, spent, cost_nano, ends_in_s=ends_in_s))
        return found
