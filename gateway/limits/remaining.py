"""What clients are told of their limits, in the headers that OpenAI has for it. Pure."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from gateway.limits.ledger import BUCKETS
from gateway.limits.side import Side


class Left(NamedTuple):
    """How much is left of the tighter limit, *most*, and when all of it will be back: *since_s*
    is how many seconds ago the last of it was used.
    """

    left: int
    most: int
    side: Side


def requests_left(sides: Iterable[Side]) -> Left | None:
    found = None
    for side in sides:
        most = side.requests_most
        if most:
            left = most - side.account.requests
            if found is None or left < found.left:
                found = Left(left, most, side)
    return found


def tokens_left(sides: Iterable[Side]) -> Left | None:
    found = None
    for side in sides:
        most = side.tokens_most
        if most:
            left = most - side.account.tokens
            if found is None or left < found.left:
                found = Left(left, most, side)
    return found


def headers_of(sides: Iterable[Side], now: float) -> dict[str, str]:
    """Of a refusal."""
    headers = {}
    for kind, found in (("requests", requests_left(sides)), ("tokens", tokens_left(sides))):
        if found is not None:
            account = found.side.account
            age_s = account.requests_age_s() if kind == "requests" else account.tokens_age_s()
            headers[f"x-ratelimit-limit-{kind}"] = str(found.most)
            headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, found.left))
            headers[f"x-ratelimit-reset-{kind}"] = duration(account.second - age_s + BUCKETS - now)
    return headers


def head_of(sides: Iterable[Side]) -> bytes:
    """Of a request that has just been let in, as lines: so the last use of all is this one."""
    head = b""
    found = requests_left(sides)
    if found is not None:
        head = (
            b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
            b"x-ratelimit-reset-requests: 1m1s\r\n" % (found.most, max(0, found.left))
        )
    found = tokens_left(sides)
    if found is not None:
        head += (
            b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\n"
            b"x-ratelimit-reset-tokens: 1m1s\r\n" % (found.most, max(0, found.left))
        )
    return head


def duration(seconds: float) -> str:
    """As OpenAI writes it: 20ms, 2s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(max(0.0, seconds) * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
