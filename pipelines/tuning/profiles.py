"""Whose steps are measured, and the profile that comes of it. Pure."""

from collections import Counter

import msgspec

from pipelines.tuning.steps import Seen
from pipelines.tuning.subject import Subject, TuneError
from registry.spec import Aggregated, Disaggregated, Role, Variant
from registry.state import Profile, Snapshot, Worker


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The devices of a worker, and what it claims of each."""

    device_model: str
    devices: int
    memory_bytes: int


def stepping(variant: Variant) -> Role:
    """Whose steps are measured. Raises TuneError."""
    topology = variant.topology
    if isinstance(topology, Disaggregated):
        raise TuneError(
            f"{variant.name} is disaggregated, and a decode worker gets its prompts from a prefill "
            "worker only: measure an aggregated variant of the same model and devices, by whose "
            "times the planner plans pairs, too"
        )
    if not isinstance(topology, Aggregated):
        raise TuneError(f"{variant.name} is external: nobody says which devices it is on")
    if topology.tensor_parallel != topology.devices:
        raise TuneError(
            f"{variant.name} has tensor_parallel {topology.tensor_parallel} on {topology.devices} "
            "devices, and the planner plans with tensor parallelism over all of them only"
        )
    return Role.UNIFIED


def held_by(snapshot: Snapshot, workers: tuple[Worker, ...]) -> dict[str, Held]:
    """By worker id. Raises TuneError for one whose devices are not known, or not alike."""
    return {worker.id: _held(snapshot, worker) for worker in workers}


def _held(snapshot: Snapshot, worker: Worker) -> Held:
    model_of = {device.id: device.model for device in snapshot.devices}
    claims = [claim for claim in snapshot.claims if claim.worker_id == worker.id]
    models = Counter(model_of.get(claim.device_id, "") for claim in claims)
    if len(models) != 1 or "" in models:
        raise TuneError(f"{worker.id} is on {len(models)} models of devices, needed is one")
    return Held(
        device_model=next(iter(models)),
        devices=len(claims),
        memory_bytes=min(claim.memory_bytes for claim in claims),
    )


def profile_of(subject: Subject, held: Held, seen: Seen) -> Profile:
    return Profile(
        source=subject.model.spec.source,
        engine=subject.variant.engine,
        device_model=held.device_model,
        devices=held.devices,
        memory_bytes=held.memory_bytes,
        batched_tokens=subject.bound,
        kv_tokens=seen.kv_tokens,
        is_kv_told=seen.is_kv_told,
        points=seen.points,
    )
