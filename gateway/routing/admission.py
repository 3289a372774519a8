"""The queue before a model: requests for which no worker has room wait their turn, bounded.

A bounded queue keeps goodput where it is past saturation: what cannot be served in time is refused
at once, with a reason, and costs its workers nothing. Within a priority the first come is first;
when the queue is full, a request pushes out the newest one of a lower priority.
"""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import TypeVar

from gateway.errors import QueueFullError
from gateway.routing.pick import Full
from gateway.routing.table import Endpoint, ModelRow
from registry.state import Priority

_Route = TypeVar("_Route")

_RANK = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}


class _Waiter:
    __slots__ = ("future", "number", "rank")

    def __init__(self, rank: int, number: int) -> None:
        self.rank = rank
        self.number = number
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __lt__(self, other: "_Waiter") -> bool:
        return (self.rank, self.number) < (other.rank, other.number)


class Admission:
    """Queues by model. They live in this process: each gateway has its own."""

    def __init__(self) -> None:
        self._queues: dict[str, list[_Waiter]] = {}  # heaps
        self._numbers = count()

    @property
    def waiting(self) -> dict[str, int]:
        """Requests in the queue, by model."""
        return {
            model: waiting
            for model, queue in self._queues.items()
            if (waiting := sum(not waiter.future.done() for waiter in queue))
        }

    async def enter(
        self, model: ModelRow, priority: Priority, find: Callable[[], _Route | Full]
    ) -> _Route:
        """What *find* finds, as soon as it is not FULL and it is this request's turn.

        Raises QueueFullError. How long to wait is the caller's business: cancel it.
        """
        if model.name not in self._queues:
            found = find()
            if not isinstance(found, Full):
                return found
        return await self._wait(model, priority, find)

    def freed(self, endpoint: Endpoint) -> None:
        """A leg has left: whose turn it is may look."""
        if self._queues:
            self._wake(endpoint.model)

    def look_again(self) -> None:
        """The workers have changed: everybody may look."""
        for model, queue in tuple(self._queues.items()):
            for _ in queue.copy():
                self._wake(model)

    async def _wait(
        self, model: ModelRow, priority: Priority, find: Callable[[], _Route | Full]
    ) -> _Route:
        waiter = _Waiter(_RANK[priority], next(self._numbers))
        self._make_room(model, waiter)
        try:
            while True:
                heappush(self._queues.setdefault(model.name, []), waiter)
                await waiter.future
                found = find()
                if not isinstance(found, Full):
                    return found
                # Somebody else was quicker, or what was freed is of no use to this one.
                waiter.future = asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if not waiter.future.cancelled():
                self._wake(model.name)  # its turn goes to the next
            raise
        finally:
            self._remove(model.name, waiter)

    def _make_room(self, model: ModelRow, newcomer: _Waiter) -> None:
        queue = self._queues.get(model.name, [])
        waiting = [waiter for waiter in queue if not waiter.future.done()]
        if len(waiting) < model.limits.queued:
            return
        last = max(waiting, default=None)
        full = QueueFullError(model.name, model.limits.queued, model.limits.retry_after_s)
        if last is None or newcomer.rank >= last.rank:
            raise full
        last.future.set_exception(full)

    def _wake(self, model: str) -> None:
        queue = self._queues.get(model)
        while queue:
            waiter = heappop(queue)
            if not waiter.future.done():
                waiter.future.set_result(None)
                break
        if queue is not None and not queue:
            self._queues.pop(model, None)

    def _remove(self, model: str, waiter: _Waiter) -> None:
        queue = self._queues.get(model)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            queue.sort()  # a sorted list is a heap
            if not queue:
                del self._queues[model]
