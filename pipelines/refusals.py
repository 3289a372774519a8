"""Refusals as people read them: nodes grouped by why they say no, and what to do. Pure."""

from collections.abc import Iterable

import msgspec

from pipelines.scheduler import Refusal
from pipelines.scheduler.filters import Reason
from registry.state import WorkerPlan

ADVICE = {
    Reason.NODE_NOT_READY: "`modelyard get nodes`: uncordon it, or see why it does not report",
    Reason.LABELS_DIFFER: "change placement.labels, or give a node that label",
    Reason.DEVICE_MODEL_DIFFERS: "change placement.device_model, or add a node with such devices",
    Reason.TOO_FEW_DEVICES: "ask for fewer devices a worker, or add a larger node",
    Reason.DEVICE_TOO_SMALL: "ask for less memory, or for more devices with tensor_parallel",
    Reason.RUNTIME_MISSING: "install the runtime on that machine",
    Reason.NOT_ENOUGH_FREE: (
        "scale something down, raise this model's priority, or add a node; "
        "`modelyard defragment` says whether moving workers would help"
    ),
}


class WhyGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that say no with the same words; most nodes first."""

    reason: Reason
    sentence: str
    advice: str
    nodes: tuple[str, ...]


class NoPlace(msgspec.Struct, frozen=True, kw_only=True):
    """*workers* (as ``decode 1``) that have no place: together or not at all with *is_gang*, else
    each for itself. *plan* is the one that fitted nowhere.
    """

    plan: WorkerPlan
    workers: tuple[str, ...]
    is_gang: bool
    groups: tuple[WhyGroup, ...]
    waits_for: tuple[str, ...]


def no_places(refusals: Iterable[Refusal]) -> tuple[NoPlace, ...]:
    """Single workers of a role that are refused for the same reasons are told once."""
    found: dict[object, NoPlace] = {}
    for refusal in refusals:
        workers = tuple(f"{plan.role} {plan.ordinal}" for plan in refusal.gang)
        is_gang = len(refusal.gang) > 1
        plan, groups = refusal.plan, grouped(refusal)
        slot = plan.slot if is_gang else plan.slot[:3]
        key = (slot, groups, refusal.waits_for)
        if key in found and not is_gang:
            workers = (*found[key].workers, *workers)
            plan = found[key].plan
        found[key] = NoPlace(
            plan=plan,
            workers=workers,
            is_gang=is_gang,
            groups=groups,
            waits_for=refusal.waits_for,
        )
    return tuple(found.values())


def grouped(refusal: Refusal) -> tuple[WhyGroup, ...]:
    nodes: dict[tuple[Reason, str], list[str]] = {}
    for why in refusal.why:
        nodes.setdefault((why.reason, why.sentence), []).append(why.node)
    groups = [
        WhyGroup(
            reason=reason, sentence=sentence, advice=ADVICE[reason], nodes=tuple(sorted(names))
        )
        for (reason, sentence), names in nodes.items()
    ]
    return tuple(sorted(groups, key=lambda group: (-len(group.nodes), group.nodes)))
