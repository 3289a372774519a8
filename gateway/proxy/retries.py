"""How many second tries may be under way at once: a fleet in trouble needs less work, not more.

A fifth of all requests, and at least three. A try counts from its turn until its worker has begun
to answer: then it is work like any other. Who finds no room waits, first come, first served.
"""

import asyncio
from collections import deque
from collections.abc import Callable

_SHARE = 0.2
_MIN = 3


class RetryBudget:
    """*active* says how many requests are under way."""

    def __init__(self, active: Callable[[], int]) -> None:
        self._active = active
        self._trying = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> "Turn":
        """Waits for room. How long is the caller's business: cancel it."""
        if self._trying >= self._room():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._free()  # its turn goes to the next
                else:
                    self._waiting.remove(waiter)
                raise
        else:
            self._trying += 1
        return Turn(self._free)

    def turn_now(self) -> "Turn | None":
        """None if there is no room."""
        if self._waiting or self._trying >= self._room():
            return None
        self._trying += 1
        return Turn(self._free)

    def _room(self) -> float:
        return max(_MIN, _SHARE * self._active())

    def _free(self) -> None:
        self._trying -= 1
        while self._waiting and self._trying < self._room():
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._trying += 1
                waiter.set_result(None)


class Turn:
    """One second try's place in the budget."""

    __slots__ = ("_free",)

    def __init__(self, free: Callable[[], None]) -> None:
        self._free: Callable[[], None] | None = free

    def over(self) -> None:
        """Its worker has begun to answer, or it has failed. Idempotent."""
        free, self._free = self._free, None
        if free is not None:
            free()
