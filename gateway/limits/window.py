"""When a window of one-second buckets has room again. Pure."""

from collections.abc import Sequence

from gateway.limits.ledger import BUCKETS


def in_order(buckets: Sequence[int], second: int) -> list[int]:
    """The counts of the last 61 seconds, oldest first, *second* being the newest."""
    newest = second % BUCKETS
    return [*buckets[newest + 1 :], *buckets[: newest + 1]]


def room_in_s(buckets: Sequence[int], second: int, now: float, excess: int) -> float:
    """The seconds from *now* until at least *excess* of the counts have left the window."""
    if excess <= 0:
        return 0.0
    for age, count in enumerate(in_order(buckets, second)):
        excess -= count
        if excess <= 0:
            oldest = second - BUCKETS + 1
            return max(0.0, oldest + age + BUCKETS - now)
    return float(BUCKETS)  # more than the window holds: the whole of it must pass
