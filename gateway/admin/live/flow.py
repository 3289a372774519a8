"""Who feeds whom in a model, and how much of it flows where. Pure."""

from collections.abc import Mapping, Sequence

from gateway.admin.live.rates import WINDOW_S, rates_of, shadows, summed
from gateway.admin.live.views import FlowVariantView, FlowView, FlowWorkerView
from gateway.admin.status import VariantStatus, model_state, variant_statuses
from gateway.admin.views import iso, topology_of
from pipelines.awake.wishes import Wish
from registry.state import Model, Worker
from registry.traffic import Traffic


def flow(
    model: Model,
    workers: Sequence[Worker],
    traffic: Sequence[Traffic],
    wish: Wish,
    *,
    devices: Mapping[str, tuple[str, ...]],
    now: float,
) -> FlowView:
    """*workers* and *traffic* are the model's own; *devices* are held by worker id."""
    statuses = variant_statuses(model, workers)
    copies = shadows(model)
    return FlowView(
        name=model.name,
        at=iso(now),
        state=model_state(model, statuses),
        rates=rates_of(summed([row for row in traffic if row.variant not in copies]), wish),
        variants=tuple(
            _variant(status, [r for r in traffic if r.variant == status.name], devices)
            for status in statuses
        ),
    )


def _variant(
    status: VariantStatus, traffic: list[Traffic], devices: Mapping[str, tuple[str, ...]]
) -> FlowVariantView:
    seen = summed(traffic)
    topology, transfer = topology_of(status.variant)
    return FlowVariantView(
        name=status.name,
        state=status.state,
        weight=status.variant.weight if status.variant else 0,
        percent=0.0,
        topology=topology,
        engine=status.variant.engine if status.variant else None,
        transfer=transfer,
        rates=rates_of(seen, None),
        paired_per_s=round(seen.paired / WINDOW_S, 3),
        kv_transfers_per_s=None,
        kv_failures_per_s=None,
        roles=status.roles,
        workers=tuple(_worker(worker, devices.get(worker.id, ())) for worker in status.workers),
    )


def _worker(worker: Worker, devices: tuple[str, ...]) -> FlowWorkerView:
    plan = worker.plan
    return FlowWorkerView(
        id=worker.id,
        role=plan.role,
        ordinal=plan.ordinal,
        revision=plan.revision,
        phase=worker.phase,
        departing=worker.departing,
        node="external" if plan.external else worker.node,
        devices=devices,
        reason=worker.reason,
        running=None,
        waiting=None,
        kv_usage=None,
        prompt_tokens_per_s=None,
        generation_tokens_per_s=None,
        requests_per_s=None,
    )
