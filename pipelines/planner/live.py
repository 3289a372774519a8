"""What a plan is for when nobody writes files: the nodes that are there, what was asked. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from pipelines.planner.demand import ENGINES, ENGINES_MEASURED
from pipelines.planner.fleet import Fleet, NodeKind
from pipelines.planner.inputs import ModelTraffic, Traffic
from registry.spec import ModelSpec
from registry.state import Device, Node, NodeState
from registry.usage import UsageTotal


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """*fleet*: the nodes that answer; None without any. *traffic*: of the models that were asked
    in the last *seconds*, have an SLO and weights to load, their mean rate and lengths; None
    without any. *left_out*: the other models that were asked, and why.
    """

    fleet: Fleet | None
    traffic: Traffic | None
    left_out: dict[str, str]
    seconds: float


def live(
    nodes: Iterable[Node],
    devices: Iterable[Device],
    specs: Mapping[str, ModelSpec],
    totals: Iterable[UsageTotal],
    seconds: float,
) -> Live:
    models, left_out = [], {}
    for total in totals:
        reason = _unplanned(total, specs.get(total.model))
        if reason:
            left_out[total.model] = reason
        else:
            models.append(_traffic(total, specs[total.model], seconds))
    return Live(
        fleet=fleet_of(nodes, devices),
        traffic=Traffic(models=tuple(models)) if models else None,
        left_out=left_out,
        seconds=seconds,
    )


def fleet_of(nodes: Iterable[Node], devices: Iterable[Device]) -> Fleet | None:
    """Nodes alike are counted together. None where no node answers."""
    there = {node.name for node in nodes if node.state is not NodeState.UNKNOWN}
    of_node: dict[tuple[str, str], list[Device]] = {}
    for device in devices:
        if device.node in there and not device.quarantine:
            of_node.setdefault((device.node, device.model), []).append(device)
    kinds = Counter((model, len(held), _island(held)) for (_, model), held in of_node.items())
    if not kinds:
        return None
    return Fleet(
        nodes=tuple(
            NodeKind(device_model=model, count=count, devices=size, island=island)
            for (model, size, island), count in sorted(kinds.items())
        )
    )


def _island(devices: list[Device]) -> int:
    """How many devices each island has, where there are several alike; else 0."""
    sizes = Counter(device.island for device in devices if device.island)
    alike = set(sizes.values())
    whole = sum(sizes.values()) == len(devices)
    return alike.pop() if len(sizes) > 1 and len(alike) == 1 and whole else 0


def _unplanned(total: UsageTotal, spec: ModelSpec | None) -> str:
    if spec is None:
        return "it is declared no more"
    if not spec.source:
        return "it has external workers only"
    if not (spec.slo.ttft_s and spec.slo.tpot_s):
        return "its slo promises no ttft_s or no tpot_s"
    if total.requests <= total.errors or not total.completion_tokens or not total.prompt_tokens:
        return "it was not answered"
    return ""


def _traffic(total: UsageTotal, spec: ModelSpec, seconds: float) -> ModelTraffic:
    answered = total.requests - total.errors
    own = (variant.engine.value for variant in spec.variants if variant.engine in ENGINES_MEASURED)
    return ModelTraffic(
        name=spec.name,
        source=spec.source,
        slo=spec.slo,
        requests_per_s=max(1e-6, answered / seconds),
        prompt_tokens=max(1.0, total.prompt_tokens / answered),
        answer_tokens=max(1.0, total.completion_tokens / answered),
        engines=tuple(dict.fromkeys([*ENGINES, *own])),
    )
