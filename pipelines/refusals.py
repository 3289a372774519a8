"""Refusals as people read them: like ones together, and what would help. Pure."""

from collections.abc import Iterable

import msgspec

from pipelines.scheduler import Reason, Refusal, Why
from registry.state import WorkerPlan

ADVICE = {
    Reason.NODE_NOT_READY: "`modelyard get nodes`: uncordon it, or see why it does not report",
    Reason.LABELS_DIFFER: "change placement.labels, or give a node that label",
    Reason.DEVICE_MODEL_DIFFERS: "change placement.device_model, or add a node with such devices",
    Reason.TOO_FEW_DEVICES: "ask for fewer devices a worker, or add a larger node",
    Reason.DEVICE_TOO_SMALL: "ask for less memory, or for more devices with tensor_parallel",
    Reason.RUNTIME_MISSING: "install the runtime on that machine",
    Reason.NOT_ENOUGH_FREE: "scale something down, raise its priority, or add a node",
    Reason.QUARANTINE: "free the device of what is not ours, or repair it: `modelyard get nodes`",
    Reason.NO_ISLAND: "leave placement.island at prefer, or ask for fewer devices",
    Reason.DEVICE_KIND_DIFFERS: "prefill and decode must be on one kind of device",
    Reason.TOO_FAR: "leave topology.locality at prefer, or free room near the others",
    Reason.IN_FOREIGN_USE: "end what uses the device beside our workers",
    Reason.QUOTA: "`modelyard get quotas`: raise the owner's, or scale its models down",
}


class NoPlace(msgspec.Struct, frozen=True, kw_only=True):
    """*workers* (as ``decode 1``) that have no place: together or not at all with *is_gang*, else
    each for itself. *plan* is the one that fitted nowhere.
    """

    plan: WorkerPlan
    workers: tuple[str, ...]
    is_gang: bool
    why: tuple[Why, ...]
    waits_for: tuple[str, ...]


def on_node(refusals: Iterable[Refusal], node: str) -> tuple[Refusal, ...]:
    """The same, with what is said of *node* alone."""
    return tuple(
        msgspec.structs.replace(
            refusal,
            why=tuple(
                msgspec.structs.replace(why, nodes=why.nodes and (node,))
                for why in refusal.why
                if not why.nodes or node in why.nodes
            ),
        )
        for refusal in refusals
    )


def no_places(refusals: Iterable[Refusal]) -> tuple[NoPlace, ...]:
    """Single workers of a role that are refused for the same reasons are told once."""
    found: dict[object, NoPlace] = {}
    for refusal in refusals:
        workers = tuple(f"{plan.role} {plan.ordinal}" for plan in refusal.gang)
        is_gang = len(refusal.gang) > 1
        plan = refusal.plan
        slot = plan.slot if is_gang else plan.slot[:3]
        key = (slot, refusal.why, refusal.waits_for)
        if key in found and not is_gang:
            workers = (*found[key].workers, *workers)
            plan = found[key].plan
        found[key] = NoPlace(
            plan=plan,
            workers=workers,
            is_gang=is_gang,
            why=refusal.why,
            waits_for=refusal.waits_for,
        )
    return tuple(found.values())
