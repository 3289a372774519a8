"""What there is to see now: read once, for everybody who looks at it. The shell."""

import msgspec

from gateway.admin.live.overview import overview
from gateway.admin.live.rates import WINDOW_S, rates, shadows, window_end
from gateway.admin.live.views import OverviewView
from gateway.admin.status import by_model, model_state, variant_statuses
from gateway.admin.views import ModelSummary, model_summary
from pipelines.awake.wishes import NOTHING, Wish, wishes
from registry.state import Model, Snapshot, Worker
from registry.store import Store
from registry.traffic import Traffic


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one moment: *workers* and *traffic* (of the last window) by model."""

    at: float
    snapshot: Snapshot
    workers: dict[str, list[Worker]]
    traffic: dict[str, list[Traffic]]
    wishes: dict[str, Wish]

    def summaries(self) -> tuple[ModelSummary, ...]:
        return tuple(
            self._summary(model) for model in sorted(self.snapshot.models, key=lambda m: m.name)
        )

    def overview(self) -> OverviewView:
        states = {}
        for model in self.snapshot.models:
            statuses = variant_statuses(model, self.workers.get(model.name, ()))
            states[model.name] = model_state(model, statuses)
        rows = [row for model in self.snapshot.models for row in self._of_clients(model)]
        everybody = Wish(
            queued=sum(wish.queued for wish in self.wishes.values()),
            in_flight=sum(wish.in_flight for wish in self.wishes.values()),
        )
        return overview(self.snapshot, states, rates(rows, everybody), (), self.at)

    def _summary(self, model: Model) -> ModelSummary:
        statuses = variant_statuses(model, self.workers.get(model.name, ()))
        wish = self.wishes.get(model.name, NOTHING)
        return model_summary(model, statuses, rates(self._of_clients(model), wish))

    def _of_clients(self, model: Model) -> list[Traffic]:
        copies = shadows(model)
        return [row for row in self.traffic.get(model.name, ()) if row.variant not in copies]


async def look(store: Store, now: float) -> Look:
    snapshot = await store.snapshot()
    until = window_end(now)
    traffic: dict[str, list[Traffic]] = {}
    for row in await store.traffic(until - WINDOW_S):
        if row.at < until:
            traffic.setdefault(row.model, []).append(row)
    return Look(
        at=now,
        snapshot=snapshot,
        workers=by_model(snapshot.workers),
        traffic=traffic,
        wishes=wishes(snapshot.demand, now),
    )
