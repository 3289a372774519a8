"""Spec → worker plans. Pure: the same model gives the same plans."""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from registry.spec import (
    NO_WISHES,
    Disaggregated,
    External,
    ExternalWorker,
    Locality,
    ModelSpec,
    Role,
    RoleSpec,
    RoutingPolicy,
    Task,
    Variant,
)
from registry.state import ExternalPlan, Model, WorkerPlan

Gang = tuple[WorkerPlan, ...]


def expand(model: Model) -> tuple[Gang, ...]:
    """The gangs a model asks for, each to be placed whole or not at all.

    The prefill and decode workers of a disaggregated variant are one gang; any other worker is
    one of its own. External ones too, in pairs or not: nothing of ours is held while one waits.
    Where an autoscaler has its say, a role has as many workers as it says.
    """
    if model.deleted:
        return ()
    gangs: list[Gang] = []
    for variant in model.spec.variants:
        topology = variant.topology
        if isinstance(topology, External):
            gangs.extend((plan,) for plan in _external_plans(model, variant, topology))
        elif isinstance(topology, Disaggregated):
            gangs.append(tuple(_placed_plans(model, variant)))
        else:
            gangs.extend((plan,) for plan in _placed_plans(model, variant))
    return tuple(gangs)


def _placed_plans(model: Model, variant: Variant) -> Iterator[WorkerPlan]:
    kv_events = model.spec.routing.policy is RoutingPolicy.KV_EVENTS
    topology, spec = variant.topology, model.spec
    locality = topology.locality if isinstance(topology, Disaggregated) else Locality.PREFER
    for role, role_spec in topology.roles():
        fingerprint = _fingerprint(model.spec, variant, role_spec)
        for ordinal in range(workers_of(model, variant, role, role_spec)):
            yield WorkerPlan(
                model=model.name,
                revision=model.revision,
                variant=variant.name,
                role=role,
                ordinal=ordinal,
                fingerprint=fingerprint,
                engine=variant.engine,
                runtime=variant.runtime,
                source=spec.source,
                transfer=variant.transfer,
                devices=role_spec.devices,
                memory_bytes=role_spec.memory_bytes,
                tensor_parallel=role_spec.tensor_parallel,
                pipeline_parallel=role_spec.pipeline_parallel,
                args=role_spec.args,
                placement=variant.placement.with_role(role_spec.placement),
                kv_events=kv_events,
                sleeps=spec.sleeps(variant),
                task=spec.task,
                owner=spec.owner,
                priority=spec.priority,
                min_available=role_spec.min_available,
                locality=locality,
            )


def workers_of(model: Model, variant: Variant, role: Role, role_spec: RoleSpec) -> int:
    """How many workers the role is to have: what its spec says, or its load within its bounds."""
    bounds = role_spec.autoscale
    if bounds is None:
        return role_spec.workers
    for scale in model.scales:
        if (scale.variant, scale.role) == (variant.name, role):
            return max(bounds.workers_min, min(scale.workers, bounds.workers_max))
    return role_spec.workers


def _external_plans(model: Model, variant: Variant, topology: External) -> Iterator[WorkerPlan]:
    for role, workers in topology.external_roles():
        for ordinal, worker in enumerate(workers):
            external = _external_plan(topology, worker)
            yield WorkerPlan(
                model=model.name,
                revision=model.revision,
                variant=variant.name,
                role=role,
                ordinal=ordinal,
                fingerprint=_digest((role, variant.engine, external), model.spec.task),
                engine=variant.engine,
                runtime="",
                source=model.spec.source,
                transfer="",
                devices=0,
                memory_bytes=0,
                tensor_parallel=1,
                pipeline_parallel=1,
                args={},
                external=external,
                task=model.spec.task,
            )


def _external_plan(topology: External, worker: ExternalWorker) -> ExternalPlan:
    return ExternalPlan(
        url=worker.origin,
        bootstrap_port=worker.bootstrap_port,
        token_file=topology.token_file,
        served_name=topology.served_name,
    )


def _fingerprint(spec: ModelSpec, variant: Variant, role_spec: RoleSpec) -> str:
    """Covers what a running worker was started with and where it may be, and nothing that can
    change under it (the number of workers, weights, limits, bypass, owner, priority, routing unless
    it needs the engine's help; sleep: whose engine cannot is stopped, and then started so that it
    can).
    """
    started_with: tuple[Any, ...] = (
        spec.source,
        variant.engine,
        variant.runtime,
        variant.placement.with_role(role_spec.placement),
        variant.transfer,
        msgspec.structs.replace(
            role_spec,
            workers=1,
            min_available=0,
            max_surge=None,
            max_unavailable=1,
            autoscale=None,
            placement=NO_WISHES,
        ),
    )
    # Only where they are wanted, so that the workers of older specs stay as they are.
    if spec.routing.policy is RoutingPolicy.KV_EVENTS:
        started_with = (*started_with, "kv-events")
    topology = variant.topology
    if isinstance(topology, Disaggregated) and topology.locality is not Locality.PREFER:
        started_with = (*started_with, topology.locality)
    return _digest(started_with, spec.task)


def _digest(started_with: tuple[Any, ...], task: Task) -> str:
    if task is not Task.GENERATE:  # as above
        started_with = (*started_with, "task", task)
    encoded = msgspec.json.encode(started_with, order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:16]
