"""Traffic of all models together over the last hour: read a piece at a time, and kept as sums.

With a thousand models an hour has hundreds of thousands of rows; what has been told of a slot long
ago does not change any more, so each is read once.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

from gateway.admin.live.rates import NOTHING, Sum, of_clients, summed
from registry.state import Model
from registry.traffic import SLOT_S, TRAFFIC_KEPT_S, Traffic

# Gateways that are late have told of a slot by then.
_SETTLED_S = 30.0
_ROWS_AT_ONCE = 4000
_SLOTS_AT_ONCE_MAX = 120


class Source(Protocol):
    """The part of `registry.store.Store` that is looked at."""

    async def traffic(self, since: float, *, until: float) -> tuple[Traffic, ...]: ...


class Past:
    def __init__(self, store: Source) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._slots: dict[float, Sum] = {}

    async def sums(
        self, since: float, until: float, models: Mapping[str, Model]
    ) -> dict[float, Sum]:
        """By slot from *since* up to *until*, of the clients of *models*."""
        async with self._lock:
            kept_since = until - TRAFFIC_KEPT_S
            self._slots = {at: one for at, one in self._slots.items() if at >= kept_since}
            at, slots = since, 1
            found: dict[float, Sum] = {}
            while at < until:
                if (known := self._slots.get(at)) is not None:
                    found[at] = known
                    at += SLOT_S
                    continue
                end = min(until, at + slots * SLOT_S)
                rows = await self._store.traffic(at, until=end)
                told = _by_slot(rows, models)
                for begin in _slots(at, end):
                    found[begin] = told.get(begin, NOTHING)
                    if begin < until - _SETTLED_S:
                        self._slots[begin] = found[begin]
                # A few slots first; where they hold little, more at once.
                fits = _ROWS_AT_ONCE * slots // max(1, len(rows))
                slots = max(1, min(fits, 4 * slots, _SLOTS_AT_ONCE_MAX))
                at = end
                await asyncio.sleep(0)  # whoever passes tokens on goes first
            return found


def _slots(since: float, until: float) -> Iterable[float]:
    while since < until:
        yield since
        since += SLOT_S


def _by_slot(rows: Iterable[Traffic], models: Mapping[str, Model]) -> dict[float, Sum]:
    slots: dict[float, dict[str, list[Traffic]]] = {}
    for row in rows:
        if row.model in models:
            slots.setdefault(row.at, {}).setdefault(row.model, []).append(row)
    return {
        at: summed([row for name, told in named.items() for row in of_clients(models[name], told)])
        for at, named in slots.items()
    }
