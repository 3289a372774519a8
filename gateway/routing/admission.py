"""The queue before a model: requests for which no worker has room wait their turn, bounded.

A bounded queue keeps goodput where it is past saturation: what cannot be served in time is refused
at once, with a reason, and costs its workers nothing. Within a priority the first come is first;
when the queue is full, a request pushes out the newest one of a lower priority.
"""

import asyncio
import time
from bisect import insort
from collections.abc import Callable
from itertools import count, islice
from typing import Any, Generic, TypeVar

from gateway.errors import QueueFullError
from gateway.routing.endpoint import Endpoint
from gateway.routing.pick import Full
from gateway.routing.table import ModelRow
from gateway.signals import Queued
from registry.state import Priority

_Route = TypeVar("_Route")

# A freed place that is of no use to this many, from the front, is left until the next one: a long
# queue must not cost each leg that leaves a look for everybody.
LOOKS_MAX = 8


class _Waiter(Generic[_Route]):
    __slots__ = ("find", "future", "number", "rank", "since", "tokens")

    def __init__(
        self,
        rank: int,
        number: int,
        find: Callable[[], _Route | Full],
        *,
        tokens: int,
        since: float,
    ) -> None:
        self.rank = rank
        self.number = number
        self.find = find
        self.tokens = tokens
        self.since = since
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __lt__(self, other: "_Waiter[Any]") -> bool:
        return (self.rank, self.number) < (other.rank, other.number)

    def can_go(self) -> bool:
        try:
            return not isinstance(self.find(), Full)
        except Exception:  # noqa: BLE001 - it will fail again, in its own task
            return True


class _Queue:
    """Of one model, first come first within a priority.

    At most one of them has the turn: it has been woken and will look for itself. Until it has,
    nobody else may, or somebody would take the place from under it.
    """

    __slots__ = ("places", "present", "tokens", "turn", "waiters")

    def __init__(self) -> None:
        # All who are here, the one with the turn, too, in the order in which they came.
        self.present: dict[int, _Waiter[Any]] = {}
        self.tokens = 0  # of their prompts
        self.waiters: list[_Waiter[Any]] = []  # sorted
        self.turn: _Waiter[Any] | None = None
        self.places = 0  # to be looked at, at most so many

    def __len__(self) -> int:
        return len(self.waiters) + (self.turn is not None)

    def look(self, places: int = 0) -> None:
        """Gives the turn to the first who can go, if there may be a place."""
        self.places += places
        if self.turn is not None or not self.places:
            return
        # Some may have been cancelled, and not yet have come to leave.
        staying = (waiter for waiter in self.waiters if not waiter.future.done())
        for waiter in islice(staying, LOOKS_MAX):
            if waiter.can_go():
                self.waiters.remove(waiter)
                self.places -= 1
                self.turn = waiter
                waiter.future.set_result(None)
                return
        self.places = 0

    def join(self, waiter: _Waiter[Any]) -> None:
        self.present[waiter.number] = waiter
        self.tokens += waiter.tokens
        insort(self.waiters, waiter)

    def leave(self, waiter: _Waiter[Any], *, took: bool) -> None:
        if self.present.pop(waiter.number, None) is not None:
            self.tokens -= waiter.tokens
        if self.turn is waiter:
            self.turn = None
            self.look(0 if took else 1)  # what it did not take is for the next
        elif waiter in self.waiters:
            self.waiters.remove(waiter)


class Admission:
    """Queues by model. They live in this process: each gateway has its own. *wall_clock* gives
    seconds of the epoch.
    """

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._queues: dict[str, _Queue] = {}  # none is empty
        self._numbers = count()
        self._wall_clock = wall_clock

    @property
    def waiting(self) -> dict[str, int]:
        """Requests in the queue, by model."""
        return {model: len(queue) for model, queue in self._queues.items()}

    def queued(self) -> dict[str, Queued]:
        """What waits, by model."""
        return {
            model: Queued(
                len(queue.present), queue.tokens, next(iter(queue.present.values())).since
            )
            for model, queue in self._queues.items()
            if queue.present
        }

    async def enter(
        self,
        model: ModelRow,
        priority: Priority,
        find: Callable[[], _Route | Full],
        *,
        tokens: int = 0,
    ) -> _Route:
        """What *find* finds, as soon as it is not FULL and it is this request's turn. The place is
        the caller's to take before it awaits anything else. *tokens* are its prompt's.

        Raises QueueFullError. How long to wait is the caller's business: cancel it.
        """
        queue = self._queues.get(model.name)
        if queue is None:
            found = find()
            if not isinstance(found, Full):
                return found
            queue = _Queue()
        waiter = _Waiter(
            priority.rank, next(self._numbers), find, tokens=tokens, since=self._wall_clock()
        )
        return await self._wait(queue, model, waiter)

    def freed(self, endpoint: Endpoint) -> None:
        """A leg has left: whose turn it is may look."""
        if self._queues:
            queue = self._queues.get(endpoint.model)
            if queue is not None:
                queue.look(1)

    def look_again(self) -> None:
        """The workers have changed: everybody may look."""
        for queue in self._queues.values():
            queue.look(len(queue))

    async def _wait(self, queue: _Queue, model: ModelRow, waiter: _Waiter[_Route]) -> _Route:
        self._make_room(queue, model, waiter)
        self._queues[model.name] = queue
        took = False
        try:
            queue.join(waiter)
            if queue.turn is not None:
                queue.look(1)  # later: it has not looked yet
            elif waiter.can_go():
                # Room that nobody was told of: a worker is taken back after a while, say. Those
                # before it come first.
                queue.look(len(queue))
            while True:
                await waiter.future
                found = waiter.find()
                if not isinstance(found, Full):
                    took = found is not None
                    return found
                # Somebody without a turn was quicker, or what was seen is what the one before has
                # taken since.
                waiter.future = asyncio.get_running_loop().create_future()
                insort(queue.waiters, waiter)
                queue.turn = None
                queue.look(1)
        finally:
            queue.leave(waiter, took=took)
            if not len(queue) and self._queues.get(model.name) is queue:
                del self._queues[model.name]

    def _make_room(self, queue: _Queue, model: ModelRow, newcomer: _Waiter[Any]) -> None:
        if len(queue) < model.limits.queued:
            return
        if queue.turn is None and newcomer.can_go():
            queue.look(len(queue))  # room that nobody was told of is for the first of them
        last = queue.waiters[-1] if queue.waiters else None
        if last is None or (newcomer.rank >= last.rank and not last.future.done()):
            raise _full(model)
        queue.waiters.pop()
        if not last.future.done():
            last.future.set_exception(_full(model))


def _full(model: ModelRow) -> QueueFullError:
    return QueueFullError(model.name, model.limits.queued, model.limits.retry_after_s)
