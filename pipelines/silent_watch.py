"""Looks for variants that no longer move KV: what `silent` needs, fetched and remembered.

Its memory is who is accused. After a restart what the registry says of a model stands until there
was time to see it anew.
"""

from collections.abc import Callable, Mapping

from pipelines.measured import Measured
from pipelines.silent import WINDOW_S, Accusation, Key, accused, sentences, sentences_in, since
from registry.state import Snapshot
from registry.store import Store

LOOK_EVERY_S = 5.0  # as often as workers are measured, and gateways tell
SEEN_ANEW_S = WINDOW_S + 15.0


class SilentWatch:
    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._accused: Mapping[Key, Accusation] = {}
        self._looked_at = 0.0
        self._began_at = clock()

    async def look(self, snapshot: Snapshot, measured: Measured) -> Mapping[str, str]:
        """By model, what is wrong with its pairs."""
        now = self._clock()
        if abs(now - self._looked_at) >= LOOK_EVERY_S:
            self._looked_at = now
            paired = any(
                variant.topology.is_disaggregated
                for model in snapshot.models
                for variant in model.spec.variants
            )
            traffic = await self._store.traffic(since(now)) if paired else ()
            self._accused = accused(snapshot, traffic, measured.every(), self._accused, now)
        found = sentences(self._accused)
        if now - self._began_at >= SEEN_ANEW_S:
            return found
        before = {
            model.name: sentences_in(model.condition) for model in snapshot.models if model.degraded
        }
        return {**before, **found}
