"""Who feeds whom in a model, and how much of it flows where. Pure."""

from collections.abc import Mapping, Sequence

from gateway.admin.live.engines import Pace, together
from gateway.admin.live.rates import WINDOW_S, of_clients, rates_of, summed
from gateway.admin.live.views import FlowVariantView, FlowView, FlowWorkerView
from gateway.admin.status import VariantStatus, model_state
from gateway.admin.views import iso, topology_of
from gateway.routing.table import model_row
from pipelines.awake.wishes import Wish
from registry.state import Model, Worker
from registry.traffic import Traffic

_WHOLE = 100  # percent


def flow(
    model: Model,
    statuses: Sequence[VariantStatus],
    traffic: Sequence[Traffic],
    wish: Wish,
    *,
    paces: Mapping[str, Pace],
    devices: Mapping[str, tuple[str, ...]],
    now: float,
) -> FlowView:
    """*traffic* is the model's own, of a whole window; *paces* and *devices* are by worker id."""
    percents = traffic_percents(model, [worker for item in statuses for worker in item.workers])
    return FlowView(
        name=model.name,
        at=iso(now),
        state=model_state(model, statuses),
        rates=rates_of(summed(of_clients(model, traffic)), wish),
        variants=tuple(
            _variant(
                status,
                [row for row in traffic if row.variant == status.name],
                tuple(
                    _worker(worker, paces.get(worker.id), devices.get(worker.id, ()))
                    for worker in status.workers
                ),
                percent=percents.get(status.name, 0.0),
                paces=[paces[worker.id] for worker in status.workers if worker.id in paces],
            )
            for status in statuses
        ),
    )


def traffic_percents(model: Model, workers: list[Worker]) -> dict[str, float]:
    """By variant, of both revisions while it rolls out: as the gateways share the traffic out."""
    rows = () if model.deleted else model_row(model, workers).variants
    total = sum(row.weight for row in rows)
    percents: dict[str, float] = {}
    for row in rows:
        percents[row.name] = percents.get(row.name, 0.0) + _WHOLE * row.weight / total
    return {name: round(percent, 1) for name, percent in percents.items()}


def _variant(
    status: VariantStatus,
    traffic: list[Traffic],
    workers: tuple[FlowWorkerView, ...],
    *,
    percent: float,
    paces: list[Pace],
) -> FlowVariantView:
    seen = summed(traffic)
    topology, transfer = topology_of(status.variant)
    return FlowVariantView(
        name=status.name,
        state=status.state,
        weight=status.variant.weight if status.variant else 0,
        percent=percent,
        topology=topology,
        engine=status.variant.engine if status.variant else None,
        transfer=transfer,
        rates=rates_of(seen, None),
        paired_per_s=round(seen.paired / WINDOW_S, 3),
        kv_transfers_per_s=together(one.kv_transfers_per_s for one in paces),
        kv_failures_per_s=together(one.kv_failures_per_s for one in paces),
        roles=status.roles,
        workers=workers,
    )


def _worker(worker: Worker, seen: Pace | None, devices: tuple[str, ...]) -> FlowWorkerView:
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
        running=seen.now.requests_running if seen else None,
        waiting=seen.now.requests_waiting if seen else None,
        kv_usage=seen.now.kv_cache_usage if seen else None,
        prompt_tokens_per_s=seen.prompt_tokens_per_s if seen else None,
        generation_tokens_per_s=seen.generation_tokens_per_s if seen else None,
        requests_per_s=seen.requests_per_s if seen else None,
    )
