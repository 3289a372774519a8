"""What may stop a request from outside: a deadline, its client going away, the gateway's own end.

All cancel the request's own task, wherever it waits, and leave the cause behind; the task asks
`claim` whether a cancellation was one of these. One timer serves a whole request: moving a
deadline is two attribute writes, so a stream can do it for every token.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum


class Stop(StrEnum):
    """Why a request was stopped."""

    BODY = "body"  # the client did not send its body in time
    QUEUED = "queued"  # no worker had room in time
    SLOW = "slow"  # this try has had its share of the time; another worker may be quicker
    FIRST_TOKEN = "first_token"  # noqa: S105 - a token of text
    TRANSFER = "transfer"  # decode waits for KV that does not come
    PARTNER = "partner"  # the other leg of a pair has failed
    BETWEEN_TOKENS = "between_tokens"
    TOTAL = "total"
    CLIENT_STALLED = "client_stalled"  # does not read what it asked for
    CLIENT_GONE = "client_gone"
    SHUTDOWN = "shutdown"  # the gateway ends


# A worker's doing: its leg has failed, the request may go on elsewhere.
LEG_STOPS = frozenset({Stop.SLOW, Stop.TRANSFER, Stop.PARTNER, Stop.BETWEEN_TOKENS})


class Watch:
    """Watches over the current task. Close it before the task goes on to anything else.

    *clock* gives monotonic seconds. While *sending* is set, a deadline that passes is the
    client's fault, not a worker's.
    """

    __slots__ = (
        "_at",
        "_clock",
        "_due",
        "_loop",
        "_outside",
        "_stop",
        "_task",
        "_timer",
        "_timer_at",
        "cause",
        "sending",
        "total_at",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._outside = task.cancelling()
        self._at = self._timer_at = float("inf")
        self._due = Stop.TOTAL
        self._timer: asyncio.TimerHandle | None = None
        self._stop: Stop | None = None
        self.total_at = float("inf")
        self.cause: Stop | None = None
        self.sending = False

    def until(self, at: float, stop: Stop) -> None:
        """The next deadline, in place of the one before; never later than the total."""
        if at >= self.total_at:
            at, stop = self.total_at, Stop.TOTAL
        self._at = at
        self._due = stop
        if at < self._timer_at:
            self._arm()

    def client_gone(self) -> None:
        self._fire(Stop.CLIENT_GONE)

    def partner_failed(self) -> None:
        """Only while a leg is under way: it takes the cancellation."""
        self._fire(Stop.PARTNER)

    def shut_down(self) -> None:
        self._fire(Stop.SHUTDOWN)

    def claim(self) -> Stop | None:
        """After a CancelledError: why, if the cancellation was ours alone, else None.

        The deadlines are off then, until the next one is set.
        """
        cause = self._stop
        if cause is None:
            return None
        self._stop = None
        if self._task.uncancel() > self._outside:
            return None
        self.cause = cause
        self._at = float("inf")
        return cause

    def claim_leg(self) -> Stop | None:
        """As `claim`, but only what is over for one leg alone."""
        return self.claim() if self._stop in LEG_STOPS else None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._at
        self._timer = self._loop.call_later(max(0.0, self._at - self._clock()), self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        if self._clock() < self._at:
            if self._at != float("inf"):
                self._arm()  # it was moved on meanwhile
            return
        self._fire(Stop.CLIENT_STALLED if self.sending else self._due)

    def _fire(self, stop: Stop) -> None:
        if self._stop is None and not self._task.done():
            self._stop = stop
            self._task.cancel()
        elif self._stop in LEG_STOPS and stop not in LEG_STOPS:
            self._stop = stop  # what ends one leg must not hide what ends the request
