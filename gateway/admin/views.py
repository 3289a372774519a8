"""What the admin API answers: one struct per answer, built from the registry's values.

No view has a field for a worker's token or a key's digest; `records.NewKeyView` alone carries a
secret, once. Times are ISO 8601 in UTC, sizes bytes, ages seconds.
"""

from datetime import UTC, datetime

import msgspec

from gateway.admin.status import RoleCount, ServingState, VariantStatus, model_state
from pipelines.engines.base import EngineMetrics
from registry.spec import TRAITS, Disaggregated, EngineName, External, Role, Variant
from registry.state import (
    Event,
    EventKind,
    Model,
    Phase,
    Rollout,
    RolloutState,
    SleepMode,
    Worker,
)


def iso(at: float) -> str:
    """Seconds since the epoch → ``2026-01-31T12:00:00.000Z``."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def iso_or_none(at: float | None) -> str | None:
    return None if at is None else iso(at)


class View(msgspec.Struct, frozen=True, kw_only=True):
    pass


class WorkerView(View, frozen=True, kw_only=True):
    """*metrics* are the engine's own counts: null unless it is ready and answers in time. A
    *departing* one serves until its successor is ready. *sleep_mode* is how it sleeps, or is about
    to.
    """

    id: str
    model: str
    revision: int
    variant: str
    role: Role
    ordinal: int
    phase: Phase
    sleep_mode: SleepMode
    departing: bool
    reason: str
    node: str
    devices: tuple[str, ...]
    address: str
    engine: EngineName
    runtime: str
    restarts: int
    age_s: float
    created_at: str
    ready_at: str | None
    ended_at: str | None
    metrics: EngineMetrics | None = None


def worker_view(
    worker: Worker,
    *,
    now: float,
    devices: tuple[str, ...] = (),
    restarts: int = 0,
    metrics: EngineMetrics | None = None,
) -> WorkerView:
    plan = worker.plan
    return WorkerView(
        id=worker.id,
        model=plan.model,
        revision=plan.revision,
        variant=plan.variant,
        role=plan.role,
        ordinal=plan.ordinal,
        phase=worker.phase,
        sleep_mode=worker.sleep_mode,
        departing=worker.departing,
        reason=worker.reason,
        node="external" if plan.external else worker.node,
        devices=devices,
        address=worker.url.partition("://")[2],
        engine=plan.engine,
        runtime=worker.runtime,
        restarts=restarts,
        age_s=round(max(0.0, (worker.ended_at or now) - worker.created_at), 1),
        created_at=iso(worker.created_at),
        ready_at=iso_or_none(worker.ready_at),
        ended_at=iso_or_none(worker.ended_at),
        metrics=metrics,
    )


class VariantView(View, frozen=True, kw_only=True):
    """*kv_transfers* sums the KV reads its ready workers counted since they started."""

    name: str
    state: ServingState
    weight: int
    engine: EngineName | None
    runtime: str
    topology: str
    transfer: str
    roles: tuple[RoleCount, ...]
    kv_transfers: int
    kv_transfer_failures: int
    workers: tuple[WorkerView, ...]


def variant_view(status: VariantStatus, workers: tuple[WorkerView, ...]) -> VariantView:
    variant = status.variant
    counts = [worker.metrics for worker in workers if worker.metrics is not None]
    topology, transfer = topology_of(variant)
    return VariantView(
        name=status.name,
        state=status.state,
        weight=variant.weight if variant else 0,
        engine=variant.engine if variant else None,
        runtime=variant.runtime if variant else "",
        topology=topology,
        transfer=transfer,
        roles=status.roles,
        kv_transfers=sum(item.kv_transfers for item in counts),
        kv_transfer_failures=sum(item.kv_transfer_failures for item in counts),
        workers=workers,
    )


def topology_of(variant: Variant | None) -> tuple[str, str]:
    """Its name and how KV is handed over, in words; "removed" where the spec has it no more."""
    if variant is None:
        return "removed", ""
    topology = variant.topology
    if isinstance(topology, Disaggregated):
        return "disaggregated", variant.transfer
    if isinstance(topology, External):
        transfers = TRAITS[variant.engine].transfers if topology.is_disaggregated else ()
        return "external", " or ".join(transfers)
    return "aggregated", ""


class RolloutSummary(View, frozen=True, kw_only=True):
    """*percent* of the traffic is the new revision's, at step *step* (0: before the first) of
    *steps*, their percents.
    """

    state: RolloutState
    from_revision: int
    to_revision: int
    step: int
    steps: tuple[int, ...]
    percent: int
    reason: str


def rollout_summary(rollout: Rollout) -> RolloutSummary:
    return RolloutSummary(
        state=rollout.state,
        from_revision=rollout.from_revision,
        to_revision=rollout.to_revision,
        step=rollout.step,
        steps=rollout.policy.canary,
        percent=rollout.percent,
        reason=rollout.reason,
    )


class RatesView(View, frozen=True, kw_only=True):
    """What clients' requests did over 30 s that ended a few seconds ago: all that ended then, each
    with all of its tokens (copies for shadows apart). *error_rate* is the share that workers are
    to blame for. *ttft* is of streams, from a request's arrival to its first token, *tpot* between
    tokens. *queued* requests wait and *in_flight* ones are at workers now; null of a variant, as
    they wait for the model. Null too where there was nothing to measure.
    """

    requests_per_s: float
    error_rate: float | None
    prompt_tokens_per_s: float
    completion_tokens_per_s: float
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    tpot_p50_s: float | None
    tpot_p95_s: float | None
    queued: int | None
    in_flight: int | None


class VariantSummary(View, frozen=True, kw_only=True):
    name: str
    state: ServingState
    weight: int
    engine: EngineName | None
    topology: str
    roles: tuple[RoleCount, ...]


class ModelSummary(View, frozen=True, kw_only=True):
    """*rollout* is the one under way."""

    name: str
    state: ServingState
    condition: str
    owner: str
    priority: int
    generation: int
    revision: int
    source: str
    created_at: str
    updated_at: str
    rollout: RolloutSummary | None
    variants: tuple[VariantSummary, ...]
    rates: RatesView


class ModelList(View, frozen=True, kw_only=True):
    items: tuple[ModelSummary, ...]


def model_summary(
    model: Model, variants: tuple[VariantStatus, ...], rates: RatesView
) -> ModelSummary:
    return ModelSummary(
        name=model.name,
        state=model_state(model, variants),
        condition=model.condition,
        owner=model.spec.owner,
        priority=model.spec.priority,
        generation=model.generation,
        revision=model.revision,
        source=model.spec.source,
        created_at=iso(model.created_at),
        updated_at=iso(model.updated_at),
        rollout=rollout_summary(model.rollout) if model.rollout is not None else None,
        variants=tuple(
            VariantSummary(
                name=item.name,
                state=item.state,
                weight=item.variant.weight if item.variant else 0,
                engine=item.variant.engine if item.variant else None,
                topology=topology_of(item.variant)[0],
                roles=item.roles,
            )
            for item in variants
        ),
        rates=rates,
    )


class EventView(View, frozen=True, kw_only=True):
    id: int
    at: str
    kind: EventKind
    model: str
    worker: str
    node: str
    message: str


def event_view(event: Event) -> EventView:
    return EventView(
        id=event.id,
        at=iso(event.at),
        kind=event.kind,
        model=event.model,
        worker=event.worker,
        node=event.node,
        message=event.message,
    )


class EventList(View, frozen=True, kw_only=True):
    """*last_id* is what to send as `after` to go on from here."""

    items: tuple[EventView, ...]
    last_id: int


class WorkerList(View, frozen=True, kw_only=True):
    items: tuple[WorkerView, ...]
