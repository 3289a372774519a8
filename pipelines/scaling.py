"""Carries out what the autoscaler decides: looks every few seconds, and tells the registry."""

from collections.abc import Callable

import structlog

from pipelines.autoscaler import Autoscaler, is_autoscaled
from pipelines.autoscaler.sight import TRAFFIC_S
from pipelines.measured import Measured
from registry.errors import NotFoundError
from registry.state import Snapshot
from registry.store import Store

log = structlog.get_logger()

LOOK_EVERY_S = 5.0


class Scaling:
    """Of the controller. A new one knows nothing of what was before, and lets no worker go until
    it does.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._autoscaler = Autoscaler()
        self._looked_at = 0.0

    async def look(self, snapshot: Snapshot, measured: Measured) -> None:
        now = self._clock()
        if abs(now - self._looked_at) < LOOK_EVERY_S:
            return
        self._looked_at = now
        if not any(is_autoscaled(v) for m in snapshot.models for v in m.spec.variants):
            return  # what a fleet's gateways tell in two minutes takes a while to read
        traffic = await self._store.traffic(since=now - TRAFFIC_S)
        for one in self._autoscaler.look(snapshot, traffic, measured.every(), now):
            try:
                await self._store.scale_role(
                    one.model, one.variant, one.role, one.workers, reason=one.reason
                )
            except NotFoundError as error:
                log.info("overtaken by another spec", error=str(error))
