"""Spec → worker plans. Pure: the same model gives the same plans."""

import hashlib

import msgspec

from registry.spec import Disaggregated, RoleSpec, Variant
from registry.state import Model, WorkerPlan

Gang = tuple[WorkerPlan, ...]


def expand(model: Model) -> tuple[Gang, ...]:
    """The gangs a model asks for, each to be placed whole or not at all.

    A worker that does both phases is a gang of its own; the prefill and decode workers of a
    disaggregated variant are one.
    """
    if model.deleted:
        return ()
    gangs: list[Gang] = []
    for variant in model.spec.variants:
        plans = _variant_plans(model, variant)
        if isinstance(variant.topology, Disaggregated):
            gangs.append(plans)
        else:
            gangs.extend((plan,) for plan in plans)
    return tuple(gangs)


def _variant_plans(model: Model, variant: Variant) -> Gang:
    topology = variant.topology
    transfer = topology.transfer if isinstance(topology, Disaggregated) else ""
    return tuple(
        WorkerPlan(
            model=model.name,
            revision=model.revision,
            variant=variant.name,
            role=role,
            ordinal=ordinal,
            fingerprint=_fingerprint(model.spec.source, variant, transfer, role_spec),
            engine=variant.engine,
            runtime=variant.runtime,
            source=model.spec.source,
            transfer=transfer,
            devices=role_spec.devices,
            memory_bytes=role_spec.memory_bytes,
            tensor_parallel=role_spec.tensor_parallel,
            pipeline_parallel=role_spec.pipeline_parallel,
            args=role_spec.args,
            placement=variant.placement,
        )
        for role, role_spec in topology.roles()
        for ordinal in range(role_spec.workers)
    )


def _fingerprint(source: str, variant: Variant, transfer: str, role_spec: RoleSpec) -> str:
    """Covers what a running worker was started with, and nothing that can change under it (the
    number of workers, weights, routing, limits, bypass).
    """
    started_with = (
        source,
        variant.engine,
        variant.runtime,
        variant.placement,
        transfer,
        msgspec.structs.replace(role_spec, workers=1),
    )
    encoded = msgspec.json.encode(started_with, order="sorted")
    return hashlib.sha256(encoded).hexdigest()[:16]
