"""A choice as a model spec that `apply` takes unchanged."""

import re
from collections.abc import Mapping
from math import ceil
from typing import TypeVar

import msgspec

from pipelines.engines import ENGINES
from pipelines.planner.demand import Demand
from pipelines.planner.options import Option, Part
from pipelines.planner.plan import Choice
from pipelines.planner.pools import Pooled
from pipelines.planner.solve import Pool
from registry.engine_args import Arg
from registry.spec import (
    Aggregated,
    Disaggregated,
    ModelSpec,
    Placement,
    Role,
    RoleSpec,
    Variant,
)
from registry.spec.engines import EngineName
from registry.state import DeviceKind

_BATCHED = {"vllm": "max-num-batched-tokens", "sglang": "chunked-prefill-size"}
_WEIGHT = 100
_GIB, _MIB = 2**30, 2**20
_NAMED_CHARS_MAX = 48
_WHOLE = 1.08  # a device is that much more than what an engine alone takes of it, and a little

Filled = TypeVar("Filled", bound=RoleSpec)


def spec_of(choice: Choice, source: str) -> ModelSpec:
    """One variant for each kind of device, which take the traffic by what they hold; or one in a
    pool.
    """
    if choice.pool is not None:
        return _pooled(choice.demand, choice.pool, source)
    rates = {option.device: option.rate for option in choice.options}
    return ModelSpec(
        name=choice.demand.model,
        source=source,
        slo=choice.demand.slo,
        variants=tuple(_variant(option, rates) for option in choice.options),
    )


def pool_name(pool: Pool) -> str:
    return f"tail-{_in_a_name(pool.device)}-{pool.size}"


def _in_a_name(device: str) -> str:
    """Nodes that are there call their devices as the maker does: ``NVIDIA H100 80GB HBM3``."""
    return re.sub(r"[^a-z0-9_]+", "-", device.lower())[:_NAMED_CHARS_MAX].strip("-_") or "device"


def overcommit(pool: Pool) -> int:
    """How many of its members there are for each place, at most."""
    return ceil(len(pool.members) / pool.places)


def claim_gib(member: Pooled, pool: Pool) -> int:
    return claim_bytes(member, pool) // _GIB


def claim_bytes(member: Pooled, pool: Pool) -> int:
    """Of each device: beside it sleep all others of its place, so it never wakes if it wants all of
    it. Not less than half of what it takes alone: where more sleep there, placing them says so.
    """
    whole = member.memory_bytes
    kept_bytes = (overcommit(pool) - 1) * held_asleep_bytes(member)
    return int(min(whole, max(whole / 2, _WHOLE * whole - kept_bytes)))


def held_asleep_bytes(member: Pooled) -> int:
    """What it keeps of each device while it sleeps."""
    ways = ENGINES[EngineName(member.worker.engine)].sleeping(DeviceKind.CUDA)
    return max((way.held_bytes for way in ways), default=0)


def _pooled(demand: Demand, pool: Pool, source: str) -> ModelSpec:
    (member,) = (one for one in pool.members if one.model == demand.model)
    part = Part(Role.UNIFIED, 1, member.worker)
    claimed = claim_bytes(member, pool)
    memory = f"{claimed // _GIB}GiB" if claimed >= _GIB else f"{claimed // _MIB}MiB"
    return ModelSpec(
        name=demand.model,
        source=source,
        slo=demand.slo,
        pool=pool_name(pool),
        variants=(
            Variant(
                engine=EngineName(member.worker.engine),
                topology=msgspec.structs.replace(_role(Aggregated, part), memory=memory),
                placement=Placement(device_model=pool.device),
            ),
        ),
    )


def _variant(option: Option, rates: Mapping[str, float]) -> Variant:
    is_only = len(rates) == 1
    return Variant(
        name="default" if is_only else _in_a_name(option.device),
        weight=_WEIGHT if is_only else max(1, round(_WEIGHT * option.rate / sum(rates.values()))),
        engine=EngineName(option.engine),
        topology=_topology(option),
        placement=Placement(device_model=option.device),
    )


def _topology(option: Option) -> Aggregated | Disaggregated:
    if not option.is_disaggregated:
        (part,) = option.parts
        return _role(Aggregated, part)
    by_role = {part.role: part for part in option.parts}
    return Disaggregated(
        prefill=_role(RoleSpec, by_role[Role.PREFILL]),
        decode=_role(RoleSpec, by_role[Role.DECODE]),
    )


def _role(kind: type[Filled], part: Part) -> Filled:
    return kind(
        workers=part.workers,
        devices=part.worker.devices,
        tensor_parallel=part.worker.devices,
        args=_args(part),
    )


def _args(part: Part) -> dict[str, Arg]:
    flag = _BATCHED.get(part.worker.engine)
    return {flag: part.worker.batched_tokens} if flag else {}
