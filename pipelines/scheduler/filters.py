"""Why a node cannot take a worker. Each filter answers None, or a reason with a sentence.

To add one: write the function, give it a `Reason`, put it into FILTERS where its sentence is
more telling than those below it (the first refusal is the one that is shown).
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from pipelines.scheduler.fleet import Fleet, need
from registry.state import DeviceKind, Node, NodeState, WorkerPlan

RuntimeOf = Callable[[WorkerPlan, DeviceKind], str]
_GIB = 2**30


class Reason(StrEnum):
    NODE_NOT_READY = "node-not-ready"
    LABELS_DIFFER = "labels-differ"
    DEVICE_MODEL_DIFFERS = "device-model-differs"
    TOO_FEW_DEVICES = "too-few-devices"
    DEVICE_TOO_SMALL = "device-too-small"
    RUNTIME_MISSING = "runtime-missing"
    NOT_ENOUGH_FREE = "not-enough-free"


class Why(msgspec.Struct, frozen=True):
    """Why this node not: the reason for machines, the sentence for people."""

    node: str
    reason: Reason
    sentence: str


Filter = Callable[[WorkerPlan, Node, Fleet, RuntimeOf], Why | None]


def node_state(plan: WorkerPlan, node: Node, fleet: Fleet, runtime_of: RuntimeOf) -> Why | None:
    del plan, fleet, runtime_of
    if node.state is NodeState.READY:
        return None
    return Why(node.name, Reason.NODE_NOT_READY, f"is {node.state}")


def labels(plan: WorkerPlan, node: Node, fleet: Fleet, runtime_of: RuntimeOf) -> Why | None:
    del fleet, runtime_of
    for key, wanted in sorted(plan.placement.labels.items()):
        if node.labels.get(key) != wanted:
            has = node.labels.get(key, "no such label")
            return Why(node.name, Reason.LABELS_DIFFER, f"wants {key}={wanted}, has {has}")
    return None


def device_model(plan: WorkerPlan, node: Node, fleet: Fleet, runtime_of: RuntimeOf) -> Why | None:
    del runtime_of
    wanted = plan.placement.device_model
    models = sorted({device.model for device in fleet.devices(node)})
    if not wanted or any(wanted.lower() in model.lower() for model in models):
        return None
    return Why(
        node.name,
        Reason.DEVICE_MODEL_DIFFERS,
        f"wants a {wanted}, has {', '.join(models) or 'no device'}",
    )


def device_count(plan: WorkerPlan, node: Node, fleet: Fleet, runtime_of: RuntimeOf) -> Why | None:
    del runtime_of
    count = len(fleet.devices(node))
    if count >= plan.devices:
        return None
    return Why(node.name, Reason.TOO_FEW_DEVICES, f"needs {plan.devices} devices, has {count}")


def device_size(plan: WorkerPlan, node: Node, fleet: Fleet, runtime_of: RuntimeOf) -> Why | None:
    del runtime_of
    sizes = [device.memory_bytes for device in fleet.devices(node)]
    if sum(size >= plan.memory_bytes for size in sizes) >= plan.devices:
        return None
    return Why(
        node.name,
        Reason.DEVICE_TOO_SMALL,
        f"needs {_gib(plan.memory_bytes)} of each device, the largest has {_gib(max(sizes))}",
    )


def runtime_installed(
    plan: WorkerPlan, node: Node, fleet: Fleet, runtime_of: RuntimeOf
) -> Why | None:
    del fleet
    runtime = runtime_of(plan, node.device_kind)
    if runtime in node.runtimes:
        return None
    return Why(
        node.name,
        Reason.RUNTIME_MISSING,
        f"has no runtime {runtime}: install it with `modelyard runtimes install {runtime}`",
    )


def free_memory(plan: WorkerPlan, node: Node, fleet: Fleet, runtime_of: RuntimeOf) -> Why | None:
    del runtime_of
    if fleet.best_devices(node, plan) is not None:
        return None
    devices = fleet.devices(node)
    fitting = sum(fleet.free_bytes(device) >= need(plan, device) for device in devices)
    amount = _gib(plan.memory_bytes) if plan.memory_bytes else "all memory"
    return Why(
        node.name,
        Reason.NOT_ENOUGH_FREE,
        f"needs {plan.devices} devices with {amount} free, {fitting} of {len(devices)} have that",
    )


FILTERS: tuple[Filter, ...] = (
    node_state,
    labels,
    device_count,
    device_model,
    device_size,
    runtime_installed,
    free_memory,
)


def first_refusal(plan: WorkerPlan, node: Node, fleet: Fleet, runtime_of: RuntimeOf) -> Why | None:
    """The first filter's refusal, or None when the node can take the worker now."""
    for check in FILTERS:
        why = check(plan, node, fleet, runtime_of)
        if why is not None:
            return why
    return None


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB"
