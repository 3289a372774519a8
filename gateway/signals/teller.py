"""The way of signals to the registry: traffic per closed slot, demand at most once a second.

Nothing waits for it. While the registry is away, demand is told anew when it is back, and traffic
is kept in memory as long as the registry would keep it, up to a bound.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from gateway.signals.collector import Collector
from registry.traffic import TRAFFIC_KEPT_S, Demand, Traffic

EVERY_S = 1.0
# Readers ignore what is older than 15 s, but for when a model was last asked for.
RESTATED_S = 5.0
_ASKED_RESTATED_S = 3600.0  # the registry forgets gateways that were silent for a day
ROWS_MAX = 500  # a transaction
WAITING_MAX = 20_000
_HURRY_S = 0.05  # between two times, however urgent
_PAUSE_S_MAX = 10.0
_TELL_S_MAX = 10.0
_CLOSE_S_MAX = 2.0

_log = structlog.get_logger("gateway.signals")


class Sink(Protocol):
    """The part of `registry.store.Store` that takes signals."""

    async def record_traffic(self, rows: Sequence[Traffic]) -> None: ...

    async def tell_demand(self, rows: Sequence[Demand]) -> None: ...


def gateway_id(node: str, home: Path, lane: int | None) -> str:
    """The same for whichever process has the *lane* of a home next; with no lane, the process's
    own. At most 64 characters.
    """
    place = sha256(f"{socket.gethostname()}\0{home.resolve()}".encode()).hexdigest()[:8]
    number = f"{lane:03d}" if lane is not None else f"p{os.getpid()}"
    return f"{node[:40]}/{place}/{number}"


class Teller:
    """Let `run` run, then call `aclose`."""

    def __init__(
        self,
        sink: Sink,
        collector: Collector,
        gateway: str,
        *,
        every_s: float = EVERY_S,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._collector = collector
        self._gateway = gateway
        self._every_s = every_s
        self._wall_clock = wall_clock
        self._waiting: deque[Traffic] = deque(maxlen=WAITING_MAX)
        self._told: dict[str, Demand] = {}
        self._hurry = asyncio.Event()
        self._failures = 0
        collector.on_hurry = self._hurry.set

    async def run(self) -> None:
        """Tells until it is cancelled."""
        while True:
            pause_s = min(self._every_s * 2 ** min(self._failures, 10), _PAUSE_S_MAX)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()
            self._hurry.clear()
            await self._try()
            await asyncio.sleep(_HURRY_S)

    async def aclose(self) -> None:
        """Tells what is left, if that goes quickly."""
        self._collector.on_hurry = None
        try:
            async with asyncio.timeout(_CLOSE_S_MAX):
                await self.tell(last=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the gateway ends
            _log.warning("signals-left", rows=len(self._waiting), error=str(error)[:200])

    async def tell(self, *, last: bool = False) -> None:
        """What there is to tell now; *last*: of the slot under way, too. Raises whatever the
        registry raises: what it did not take is told again.
        """
        now = self._wall_clock()
        self._waiting.extend(self._collector.traffic(self._gateway, now, all_of_it=last))
        while self._waiting and self._waiting[0].at < now - TRAFFIC_KEPT_S:
            self._waiting.popleft()
        await self._tell_demand(now)  # first: a worker may have to wake up for it
        while self._waiting:
            batch = list(islice(self._waiting, ROWS_MAX))
            await self._sink.record_traffic(batch)
            for _ in batch:
                self._waiting.popleft()

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(_TELL_S_MAX):
                await self.tell()
        except Exception as error:  # noqa: BLE001 - the sink is the registry; try again, whatever
            self._failures += 1
            if self._failures == 1:
                _log.warning("signals-delayed", error=str(error)[:200])
            return
        if self._failures:
            _log.info("signals-told-again", failures=self._failures)
        self._failures = 0

    async def _tell_demand(self, now: float) -> None:
        demand = self._collector.demand(self._gateway, now)
        news = [row for row in demand.values() if _is_news(row, self._told.get(row.model))]
        for start in range(0, len(news), ROWS_MAX):
            batch = news[start : start + ROWS_MAX]
            await self._sink.tell_demand(batch)
            self._told.update((row.model, row) for row in batch)
        for model in self._told.keys() - demand.keys():
            del self._told[model]


def _is_news(row: Demand, told: Demand | None) -> bool:
    if told is None or msgspec.structs.replace(row, at=told.at) != told:
        return True
    stale_s = RESTATED_S if row.queued or row.in_flight else _ASKED_RESTATED_S
    return row.at - told.at >= stale_s
