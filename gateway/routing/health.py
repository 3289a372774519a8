"""Which workers failed lately and are set aside for a moment. In memory, rebuilt by traffic.

The registry knows whether a worker is ready; this knows what the last requests saw, seconds
earlier. It only ever orders choices (`Barred.shunned`): the last of a role stays in use.
"""

from math import inf

_FIRST_ASIDE_S = 1.0
_LONGEST_ASIDE_S = 30.0
# An answer of 5xx may be one bad request's doing; a refused connection is not.
_SOFT_FAILURES = 5


class _Record:
    __slots__ = ("aside_until", "soft", "times")

    def __init__(self) -> None:
        self.soft = 0
        self.times = 0
        self.aside_until = 0.0


class Health:
    """Times are the caller's monotonic seconds."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def aside(self, now: float) -> set[str]:
        """Ids of workers to avoid at *now*."""
        if not self._records:
            return set()
        return {worker for worker, record in self._records.items() if record.aside_until > now}

    def succeeded(self, worker_id: str) -> None:
        if self._records:
            self._records.pop(worker_id, None)

    def failed(self, worker_id: str, now: float, *, soft: bool = False) -> None:
        """Sets the worker aside, each time in a row for twice as long; after a *soft* failure
        only when it is one of several in a row.
        """
        record = self._records.setdefault(worker_id, _Record())
        if record.aside_until > now:
            return  # requests that were under way together fail together: that is one failure
        record.soft += soft
        if soft and record.soft < _SOFT_FAILURES:
            return
        aside_s = min(_FIRST_ASIDE_S * 2 ** min(record.times, 10), _LONGEST_ASIDE_S)
        record.soft = 0
        record.times += 1
        record.aside_until = now + aside_s

    def hung(self, worker_id: str) -> None:
        """Sets the worker aside until something has succeeded there."""
        self._records.setdefault(worker_id, _Record()).aside_until = inf

    def keep(self, worker_ids: frozenset[str]) -> None:
        """Forgets every worker but these."""
        self._records = {w: r for w, r in self._records.items() if w in worker_ids}
