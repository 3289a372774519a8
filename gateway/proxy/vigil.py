"""Tells a worker that hangs from one that is busy, and lets go of the first.

A worker that computes says nothing for a while, and a stopped process says nothing for ever; a
request cannot tell them apart. So a worker that owes answers and has been silent is asked for its
model list: the front end of a busy engine still answers that. One that does not, twice, loses its
requests to others, and gets no new ones until it answers again. The last worker of a model is
left alone: there is nobody to go to, and its deadlines still hold.
"""

import asyncio
from collections.abc import Callable, Iterator

import structlog

from gateway.proxy.errors import HungError, UpstreamError
from gateway.proxy.upstream import Upstream
from gateway.routing.endpoint import Endpoint
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable, VariantRow
from pipelines.engines.base import Pairing
from registry.spec import Role

SILENT_S = 2.0
PING_S = 2.0
_PINGS = 2
_PATH = "/v1/models"
_LOOK_EVERY_S = 0.5
_BODY_BYTES_MAX = 64 * 1024

_log = structlog.get_logger("gateway.vigil")


class Vigil:
    """*table* gives the routing table of the moment; *clock* the health record's seconds."""

    def __init__(
        self,
        upstream: Upstream,
        router: Router,
        table: Callable[[], RoutingTable],
        clock: Callable[[], float],
        *,
        silent_s: float = SILENT_S,
        ping_s: float = PING_S,
    ) -> None:
        self._upstream = upstream
        self._router = router
        self._table = table
        self._clock = clock
        self._silent_s = silent_s
        self._ping_s = ping_s
        self._missed: dict[str, int] = {}  # pings in a row, by worker
        self._hung: dict[str, Endpoint] = {}

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        asked: set[str] = set()
        async with asyncio.TaskGroup() as pings:
            while True:
                await asyncio.sleep(min(_LOOK_EVERY_S, self._silent_s))
                silent = self._upstream.silent(loop.time(), self._silent_s)
                suspects = {endpoint.worker_id: endpoint for endpoint in silent} | self._hung
                known = self._table().worker_ids()
                self._hung = {w: e for w, e in self._hung.items() if w in known}
                self._missed = {w: n for w, n in self._missed.items() if w in suspects}
                for worker, endpoint in suspects.items():
                    if worker in known and worker not in asked:
                        asked.add(worker)
                        pings.create_task(self._ask(endpoint, asked))

    async def _ask(self, endpoint: Endpoint, asked: set[str]) -> None:
        worker, began = endpoint.worker_id, asyncio.get_running_loop().time()
        answers = await self._answers(endpoint)
        asked.discard(worker)
        known_to_hang = worker in self._hung
        if answers:
            self._missed.pop(worker, None)
            if self._hung.pop(worker, None) is not None:
                _log.info("worker-answers-again", worker=worker)
                self._router.health.succeeded(worker)
        elif known_to_hang or endpoint in self._silent_since(began):
            missed = self._missed[worker] = self._missed.get(worker, 0) + 1
            if (known_to_hang or missed >= _PINGS) and self._has_others(endpoint):
                if not known_to_hang:
                    _log.warning("worker-hangs", worker=worker)
                self._hung[worker] = endpoint
                self._router.health.hung(worker)
                self._upstream.fail(worker, HungError("its model list does not answer either"))

    def _silent_since(self, began: float) -> list[Endpoint]:
        now = asyncio.get_running_loop().time()
        return self._upstream.silent(now, now - began)

    async def _answers(self, endpoint: Endpoint) -> bool:
        connection = None
        try:
            async with asyncio.timeout(self._ping_s):
                connection = await self._upstream.ask(endpoint, _PATH, connect_s=self._ping_s)
                await connection.read_all(_BODY_BYTES_MAX)
        except (UpstreamError, TimeoutError):
            return False
        finally:
            if connection is not None:
                connection.abort()
        return True

    def _has_others(self, endpoint: Endpoint) -> bool:
        """Whether somebody else can serve what it leaves."""
        row = self._table().models.get(endpoint.model)
        aside = self._router.health.aside(self._clock()) | {endpoint.worker_id}
        return row is not None and any(
            other.worker_id not in aside
            for variant in row.variants
            for other in _stand_ins(variant, endpoint)
        )


def _stand_ins(variant: VariantRow, endpoint: Endpoint) -> Iterator[Endpoint]:
    """A half of a pair that is asked at the same time as the other serves nobody alone."""
    alone = variant.pairing is not Pairing.CONCURRENT
    for other in (*variant.unified, *variant.prefill, *variant.decode):
        if alone or other.role in (endpoint.role, Role.UNIFIED):
            yield other
