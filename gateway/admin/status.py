"""How well a model is served, told from a snapshot. Pure."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from pipelines.topology import expand, workers_of
from registry.spec import Role, RoleSpec, Variant
from registry.state import LIVE_PHASES, SLEEPING_PHASES, Model, Phase, Snapshot, Worker

_ANSWERING = frozenset({Role.UNIFIED, Role.DECODE})  # a role that can answer alone
_BROKEN = frozenset({Phase.FAILED, Phase.LOST})

Slot = tuple[str, str, Role, int]


class ServingState(StrEnum):
    READY = "ready"  # every worker of the current revision serves
    ROLLING = "rolling"  # requests are answered, by workers of two revisions, or soon so
    DEGRADED = "degraded"  # requests are answered, but not by everything the spec asks for
    ASLEEP = "asleep"  # nothing is wrong: the next request wakes it
    STARTING = "starting"  # nothing answers yet, workers are on their way
    UNAVAILABLE = "unavailable"  # nothing answers and nothing is on its way
    DELETING = "deleting"  # its last workers stop


class AutoscaleCount(msgspec.Struct, frozen=True, kw_only=True):
    """That a role's number of workers follows its load between two bounds; *reason* is why it has
    those it has, "" as long as they are those of its spec.
    """

    workers_min: int
    workers_max: int
    reason: str


class RoleCount(msgspec.Struct, frozen=True, kw_only=True):
    """*desired* by the spec, or by its load where it is autoscaled; *live*, *ready* and *asleep* of
    those, counting only workers that run what the current revision asks for.
    """

    role: Role
    desired: int
    live: int
    ready: int
    asleep: int = 0
    autoscale: AutoscaleCount | None = None


class VariantStatus(msgspec.Struct, frozen=True, kw_only=True):
    """*variant* is None for one that the spec no longer has but whose workers still run."""

    name: str
    variant: Variant | None
    state: ServingState
    roles: tuple[RoleCount, ...]
    workers: tuple[Worker, ...]


def by_model(workers: Iterable[Worker]) -> dict[str, list[Worker]]:
    """All workers are gone through once, not once for each model."""
    found: dict[str, list[Worker]] = {}
    for worker in workers:
        found.setdefault(worker.plan.model, []).append(worker)
    return found


def variant_statuses(model: Model, workers: Sequence[Worker]) -> tuple[VariantStatus, ...]:
    """The spec's variants in its order, then those that only have workers left; *workers* are the
    live ones of *model*.
    """
    wanted = {plan.slot: plan.fingerprint for gang in expand(model) for plan in gang}
    declared = {variant.name: variant for variant in model.spec.variants}
    leftover = sorted({worker.plan.variant for worker in workers} - declared.keys())
    return tuple(
        _variant_status(
            name,
            declared.get(name),
            wanted,
            tuple(worker for worker in workers if worker.plan.variant == name),
            model,
        )
        for name in [*declared, *leftover]
    )


def model_state(model: Model, variants: Iterable[VariantStatus]) -> ServingState:
    """The model's state: that of its variants that take traffic, the best one's where they
    differ, but *degraded* as soon as one of them is not whole, or serves badly all the same. While
    it changes, the old workers count as well.
    """
    variants = tuple(variants)
    if model.deleted:
        return ServingState.DELETING
    if model.rollout is not None and not model.degraded and any(map(_answers, variants)):
        return ServingState.ROLLING
    states = {item.state for item in variants if item.variant and item.variant.weight}
    if states <= {ServingState.READY, ServingState.ASLEEP} and states and not model.degraded:
        return ServingState.READY if ServingState.READY in states else ServingState.ASLEEP
    if states & {ServingState.READY, ServingState.DEGRADED}:
        return ServingState.DEGRADED
    for state in (ServingState.STARTING, ServingState.ASLEEP):
        if state in states:
            return state
    return ServingState.UNAVAILABLE


def restarts(snapshot: Snapshot) -> dict[Slot, int]:
    """How often each slot's worker ended by itself, as far as its history is kept."""
    counts: dict[Slot, int] = {}
    for worker in snapshot.ended:
        if worker.phase in _BROKEN:
            counts[worker.plan.slot] = counts.get(worker.plan.slot, 0) + 1
    return counts


def worker_order(worker: Worker) -> tuple[str, str, bool, int, str]:
    """By model and variant, prefill before decode: the order a request meets them."""
    plan = worker.plan
    return (plan.model, plan.variant, plan.role is Role.DECODE, plan.ordinal, worker.id)


def _variant_status(
    name: str,
    variant: Variant | None,
    wanted: dict[Slot, str],
    workers: tuple[Worker, ...],
    model: Model,
) -> VariantStatus:
    current = [w for w in workers if wanted.get(w.plan.slot) == w.plan.fingerprint]
    roles = tuple(_role_counts(model, variant, current)) if variant is not None else ()
    return VariantStatus(
        name=name,
        variant=variant,
        state=ServingState.DELETING if model.deleted or variant is None else _state(roles, workers),
        roles=roles,
        workers=tuple(sorted(workers, key=worker_order)),
    )


def _role_counts(model: Model, variant: Variant, current: list[Worker]) -> Iterable[RoleCount]:
    for role, spec in variant.topology.roles():
        of_role = [worker.phase for worker in current if worker.plan.role is role]
        yield RoleCount(
            role=role,
            desired=workers_of(model, variant, role, spec),
            live=sum(phase in LIVE_PHASES for phase in of_role),
            ready=of_role.count(Phase.READY),
            asleep=sum(phase in SLEEPING_PHASES for phase in of_role),
            autoscale=_autoscale_count(model, variant, role, spec),
        )


def _autoscale_count(
    model: Model, variant: Variant, role: Role, spec: RoleSpec
) -> AutoscaleCount | None:
    if spec.autoscale is None:
        return None
    slot = (variant.name, role)
    return AutoscaleCount(
        workers_min=spec.autoscale.workers_min,
        workers_max=spec.autoscale.workers_max,
        reason=next((one.reason for one in model.scales if (one.variant, one.role) == slot), ""),
    )


def _answers(variant: VariantStatus) -> bool:
    return _any_answers(variant.workers)


def _any_answers(workers: Iterable[Worker]) -> bool:
    return any(w.phase is Phase.READY and w.plan.role in _ANSWERING for w in workers)


def _state(roles: tuple[RoleCount, ...], workers: tuple[Worker, ...]) -> ServingState:
    if all(count.ready >= count.desired for count in roles):
        return ServingState.READY
    answers = _any_answers(workers)
    if all(count.ready + count.asleep >= count.desired for count in roles):
        return ServingState.READY if answers else ServingState.ASLEEP
    if answers:
        return ServingState.DEGRADED
    coming = any(count.live for count in roles)
    return ServingState.STARTING if coming else ServingState.UNAVAILABLE
