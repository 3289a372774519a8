"""Why a request is not let in now, and when it may be tried again. Pure."""

import math
from enum import StrEnum
from typing import NamedTuple

from gateway.errors import ApiError, OverLimitError, RateLimitError
from registry.state import NANO


class Reason(StrEnum):
    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"
    IN_FLIGHT = "in_flight"
    BUDGET = "budget"


class Shortage(NamedTuple):
    """*wait_s* is infinite where waiting does not help. *is_never*: it is more than the limit
    itself; *is_spent*: a budget's end, which lasts.
    """

    reason: Reason
    wait_s: float
    text: str
    is_never: bool = False
    is_spent: bool = False

    @property
    def rank(self) -> tuple[bool, float]:
        """The one that a client should know of is the last to pass."""
        return self.is_never, self.wait_s


def of_requests(whose: str, limit: int, wait_s: float) -> Shortage:
    return Shortage(Reason.REQUESTS, wait_s, f"{whose} takes {limit} requests a minute.")


def of_tokens(whose: str, limit: int, used: int, wanted: int, wait_s: float) -> Shortage:
    if wanted > limit:
        text = (
            f"{whose} takes {limit} tokens a minute, and this request asks for up to {wanted}, "
            "prompt and answer together: it would never fit. Ask for a shorter answer "
            "(max_tokens), or send a shorter prompt."
        )
        return Shortage(Reason.TOKENS, math.inf, text, is_never=True)
    text = (
        f"{whose} takes {limit} tokens a minute: {used} are used or set aside, and this request "
        f"asks for up to {wanted}."
    )
    return Shortage(Reason.TOKENS, wait_s, text)


def of_in_flight(whose: str, limit: int) -> Shortage:
    return Shortage(Reason.IN_FLIGHT, 1.0, f"{whose} takes {limit} requests at once.")


def of_budget(whose: str, budget: int, spent: int, wanted: int, *, ends_in_s: float) -> Shortage:
    """Amounts in nanos. If only what is set aside for others is in the way, a second may do."""
    if spent + wanted <= budget:
        text = f"{whose} has what is left of its budget set aside for requests under way."
        return Shortage(Reason.BUDGET, 1.0, text)
    text = (
        f"{whose} has spent {money(spent)} of its budget of {money(budget)}, and this request may "
        f"cost {money(wanted)}."
    )
    return Shortage(Reason.BUDGET, ends_in_s, text, is_spent=True)


def error_of(shortages: list[Shortage], headers: dict[str, str]) -> ApiError:
    """The refusal for the one of *shortages* that lasts longest."""
    last = max(shortages, key=lambda shortage: shortage.rank)
    if last.is_never:
        return OverLimitError(last.text, reason=last.reason)
    text = last.text
    if last.wait_s < math.inf:
        wait_s = max(1, math.ceil(last.wait_s))
        headers["retry-after"] = str(wait_s)
        text += f" Try again in {wait_s} s."
    if last.is_spent:
        headers["x-should-retry"] = "false"  # the clients of OpenAI and Anthropic heed it
    is_quota = last.reason is Reason.BUDGET
    return RateLimitError(text, reason=last.reason, is_quota=is_quota, headers=headers)


def money(nano: int) -> str:
    """Exact, and no longer than need be."""
    units, rest = divmod(nano, NANO)
    return f"{units}.{rest:09d}".rstrip("0").rstrip(".")
