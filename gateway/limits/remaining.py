"""What clients are told of the tighter limit of each kind, in the headers that OpenAI has for it:
what it is, what is left of it, when all of it will be back. Pure.
"""

import math
from collections.abc import Callable, Sequence

from gateway.limits.ledger import BUCKETS
from gateway.limits.side import Side

_REQUESTS = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
    b"x-ratelimit-reset-requests: 1m1s\r\n"
)
_TOKENS = (
    b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\n"
    b"x-ratelimit-reset-tokens: 1m1s\r\n"
)


def headers_of(sides: Sequence[Side], now: float) -> dict[str, str]:
    """Of a refusal."""
    headers = {}
    for kind, side, left in (
        ("requests", *_tightest(sides, Side.requests_left)),
        ("tokens", *_tightest(sides, Side.tokens_left)),
    ):
        if side is not None:
            account = side.account
            of_requests = kind == "requests"
            most = side.requests_most if of_requests else side.tokens_most
            age_s = account.requests_age_s() if of_requests else account.tokens_age_s()
            headers[f"x-ratelimit-limit-{kind}"] = str(most)
            headers[f"x-ratelimit-remaining-{kind}"] = str(left)
            headers[f"x-ratelimit-reset-{kind}"] = duration(account.second - age_s + BUCKETS - now)
    return headers


def head_of(sides: Sequence[Side]) -> bytes:
    """Of a request that has just been let in, as lines: so the last use of all is this one."""
    head = b""
    side, left = _tightest(sides, Side.requests_left)
    if side is not None:
        head = _REQUESTS % (side.requests_most, left)
    side, left = _tightest(sides, Side.tokens_left)
    if side is not None:
        head += _TOKENS % (side.tokens_most, left)
    return head


def _tightest(
    sides: Sequence[Side], left_of: Callable[[Side], int | None]
) -> tuple[Side | None, int]:
    """The side that has the least left, and how much; None if there is no such limit."""
    found, least = None, 0
    for side in sides:
        left = left_of(side)
        if left is not None and (found is None or left < least):
            found, least = side, left
    return found, least


def duration(seconds: float) -> str:
    """As OpenAI writes it: 20ms, 2s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(max(0.0, seconds) * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
