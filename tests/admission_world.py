"""A fleet without workers: places, and requests that queue for them."""

import asyncio
from itertools import count
from types import SimpleNamespace

from gateway.errors import QueueFullError
from gateway.routing.admission import LOOKS_MAX, Admission
from gateway.routing.pick import FULL
from registry.spec import Limits
from registry.state import Priority

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW
RANK = {HIGH: 0, NORMAL: 1, LOW: 2}


async def settle():
    for _ in range(3 * LOOKS_MAX):
        await asyncio.sleep(0)


class Request:
    def __init__(self, fleet, priority, pools):
        self.priority, self.pools = priority, pools
        self.number = next(fleet.numbers)
        self.state = "new"
        self.settled = False  # it has waited since before the last turn was given
        self.release = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(fleet.serve(self))


class Fleet:
    """Pools with so many places each, and requests that may use some of them."""

    def __init__(self, *places, queued=LOOKS_MAX):
        self.places = dict(enumerate(places))
        self.used = dict.fromkeys(self.places, 0)
        self.admission = Admission()
        self.row = SimpleNamespace(name="m", limits=Limits(queued=queued))
        self.requests = []
        self.admitted = []
        self.numbers = count()
        self.strict = len(places) == 1  # then whoever is first can go first

    def come(self, priority=NORMAL, pools=(0,)):
        request = Request(self, priority, pools)
        self.requests.append(request)
        return request

    def find(self, request):
        free = [pool for pool in request.pools if self.used[pool] < self.places[pool]]
        return free[0] if free else FULL

    async def serve(self, request):
        request.state = "waiting"
        try:
            pool = await self.admission.enter(
                self.row, request.priority, lambda: self.find(request)
            )
        except QueueFullError:
            request.state = "refused"
            return
        except asyncio.CancelledError:
            request.state = "gone"
            raise
        request.state = "served"
        self.used[pool] += 1
        assert self.used[pool] <= self.places[pool], "too many in flight"
        self.admitted.append(request)
        if self.strict:
            self.check_turn(request)
        try:
            await request.release
        finally:
            request.state = "done"
            self.used[pool] -= 1
            self.admission.freed(SimpleNamespace(model="m"))

    def check_turn(self, request):
        for other in self.waiting:
            if other.priority == request.priority:
                assert other.number > request.number, "not its turn"
            elif other.settled:
                assert RANK[other.priority] > RANK[request.priority], "not its turn"

    @property
    def waiting(self):
        return [r for r in self.requests if r.state == "waiting" and not r.task.cancelling()]

    async def settle(self):
        await settle()
        for request in self.waiting:
            assert self.find(request) is FULL, "a free place, and somebody waits for it"
            request.settled = True
        assert self.admission.waiting.get("m", 0) == len(self.waiting) <= self.row.limits.queued

    async def end(self):
        """Everybody leaves, and nothing is left."""
        while live := [r for r in self.requests if not r.task.done()]:
            for request in live:
                if request.state == "served" and not request.release.done():
                    request.release.set_result(None)
            await self.settle()
        for request in self.requests:
            if not request.task.cancelled():
                request.task.result()
        assert self.admission._queues == {}
        assert self.admission.waiting == {}
