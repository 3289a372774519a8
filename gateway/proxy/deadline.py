"""What may stop a request from outside: a deadline, its client going away, the gateway's own end.

All cancel the request's own task, wherever it waits, and leave the cause behind; the task asks
`claim` whether a cancellation was one of these. One timer serves all requests: a deadline is two
attribute writes, so a stream can move it for every token, and it is kept to SWEEP_S.
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
# What a client is told.
TOO_LATE = {
    Stop.FIRST_TOKEN: "The model did not begin to answer in time.",
    Stop.BETWEEN_TOKENS: "The model stopped in the middle of its answer.",
    Stop.TOTAL: "The model did not finish its answer in time.",
}

SWEEP_S = 0.05
_NEVER = float("inf")


class Sweep:
    """Looks at every request's deadline, twenty times a second while there are any: a timer for
    each of them would cost more. *clock* gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float], *, every_s: float = SWEEP_S) -> None:
        self._clock = clock
        self._every_s = every_s
        self._watches: set[Watch] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watch: "Watch") -> None:
        self._watches.add(watch)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._look)

    def remove(self, watch: "Watch") -> None:
        self._watches.discard(watch)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._clock()
        for watch in tuple(self._watches):
            if watch.moved:
                watch.moved = False
                watch.until(now + watch.between_s, Stop.BETWEEN_TOKENS)
            if watch.at <= now:
                watch.expire()
        self._timer = None
        if self._watches:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._look)


class Watch:
    """Watches over *task*, the current one if not given. Close it before the task goes on to
    anything else. While *sending* is set, a deadline that passes is the client's fault, not a
    worker's. A token sets *moved*: by the next sweep the deadline is *between_s* from then.
    """

    __slots__ = (
        "_due",
        "_outside",
        "_stop",
        "_sweep",
        "_task",
        "at",
        "between_s",
        "cause",
        "moved",
        "sending",
        "total_at",
    )

    def __init__(self, sweep: Sweep, task: asyncio.Task[None] | None = None) -> None:
        task = task or asyncio.current_task()
        assert task is not None
        self._task = task
        self._sweep = sweep
        self._outside = task.cancelling()
        self._due = Stop.TOTAL
        self._stop: Stop | None = None
        self.at = _NEVER
        self.total_at = _NEVER
        self.cause: Stop | None = None
        self.sending = False
        self.moved = False
        self.between_s = 0.0
        sweep.add(self)

    def until(self, at: float, stop: Stop) -> None:
        """The next deadline, in place of the one before; never later than the total."""
        if at >= self.total_at:
            at, stop = self.total_at, Stop.TOTAL
        self.at = at
        self._due = stop
        self.moved = False

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
        self.at = _NEVER
        self.moved = False
        return cause

    def claim_leg(self) -> Stop | None:
        """As `claim`, but only what is over for one leg alone."""
        return self.claim() if self._stop in LEG_STOPS else None

    def close(self) -> None:
        self._sweep.remove(self)

    def expire(self) -> None:
        """The deadline has passed."""
        self.at = _NEVER
        self._fire(Stop.CLIENT_STALLED if self.sending else self._due)

    def _fire(self, stop: Stop) -> None:
        if self._stop is None and not self._task.done():
            self._stop = stop
            self._task.cancel()
        elif self._stop in LEG_STOPS and stop not in LEG_STOPS:
            self._stop = stop  # what ends one leg must not hide what ends the request
