"""What is wrong, and what to do about it, in words for whoever is called at night. Pure."""

from collections.abc import Iterator, Mapping

import msgspec

from gateway.admin.live.views import ProblemKind, ProblemView, Severity
from gateway.admin.status import ServingState, VariantStatus
from gateway.admin.views import RatesView
from pipelines.awake.wishes import Wish
from registry.state import (
    Lease,
    Model,
    Node,
    NodeState,
    Phase,
    Proposal,
    Rollout,
    RolloutState,
    Snapshot,
    Worker,
)

PROBLEMS_MAX = 100
# Fewer requests within a window tell nothing of a model.
_REQUESTS_MIN = 10
_ERRORS_WARN, _ERRORS_BAD = 0.05, 0.5  # shares of the requests
_REQUESTS_PER_S_MIN = _REQUESTS_MIN / 30.0
_QUEUE_FULL_SHARE = 0.8
_SEVERITIES = {severity: rank for rank, severity in enumerate(Severity)}
# Who holds up the most comes first.
_KINDS = {
    kind: rank
    for rank, kind in enumerate(
        (
            *(ProblemKind.CONTROLLER, ProblemKind.NODE, ProblemKind.MODEL),
            *(ProblemKind.ROLLOUT, ProblemKind.DEVICE, ProblemKind.PROPOSAL),
        )
    )
}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to judge. Mappings are by model; *failed* are workers that ended by themselves,
    oldest end first, as far as their history is kept.
    """

    snapshot: Snapshot
    states: Mapping[str, ServingState]
    statuses: Mapping[str, tuple[VariantStatus, ...]]
    failed: Mapping[str, list[Worker]]
    rates: Mapping[str, RatesView]
    wishes: Mapping[str, Wish]
    lease: Lease | None
    proposals: tuple[Proposal, ...]
    now: float


def problems(facts: Facts) -> tuple[ProblemView, ...]:
    """The most severe first."""
    found = [
        *_of_controller(facts),
        *_of_nodes(facts),
        *(problem for model in facts.snapshot.models for problem in _of_model(facts, model)),
        *_of_devices(facts),
        *_of_proposals(facts),
    ]
    return tuple(
        sorted(found, key=lambda one: (_SEVERITIES[one.severity], _KINDS[one.kind], one.name))
    )


def _of_controller(facts: Facts) -> Iterator[ProblemView]:
    if facts.lease is None or facts.lease.expires_in_s <= 0:
        yield ProblemView(
            severity=Severity.ERROR,
            kind=ProblemKind.CONTROLLER,
            name="",
            sentence="no controller leads: workers serve on, but none is placed, started, replaced "
            "or woken",
            advice="start the controller, or read its log: it says what it waits for",
        )


def _of_nodes(facts: Facts) -> Iterator[ProblemView]:
    there: dict[str, set[str]] = {}
    for worker in facts.snapshot.workers:
        there.setdefault(worker.node, set()).add(worker.id)
    for node in facts.snapshot.nodes:
        workers = len(there.get(node.name, ()))
        if (problem := _of_node(node, workers, facts.now)) is not None:
            yield problem


def _of_node(node: Node, workers: int, now: float) -> ProblemView | None:
    carries = f"{_many(workers, 'worker')} on it" if workers else "no worker on it"
    if node.state is NodeState.UNKNOWN:
        return ProblemView(
            severity=Severity.ERROR if workers else Severity.WARNING,
            kind=ProblemKind.NODE,
            name=node.name,
            sentence=f"has not reported for {_span(now - node.last_seen_at)}, with {carries}",
            advice="look at the machine and its network, and start Modelyard (or Ray) there again; "
            f"if it is gone for good: modelyard delete node {node.name}",
        )
    if node.state is NodeState.DRAINING:
        return ProblemView(
            severity=Severity.INFO,
            kind=ProblemKind.NODE,
            name=node.name,
            sentence=f"is being drained, with {carries}",
            advice=(
                "wait until its workers have successors; to stop it: "
                if workers
                else "it can be taken down now; to use it again: "
            )
            + f"modelyard uncordon {node.name}",
        )
    if node.state is NodeState.CORDONED:
        return ProblemView(
            severity=Severity.INFO,
            kind=ProblemKind.NODE,
            name=node.name,
            sentence=f"is cordoned, with {carries}: it takes no new ones",
            advice=f"when it may be used again: modelyard uncordon {node.name}",
        )
    return None


def _of_model(facts: Facts, model: Model) -> Iterator[ProblemView]:
    if model.deleted:
        return
    state = facts.states[model.name]
    yield from _of_serving(facts, model, state)
    if (rates := facts.rates.get(model.name)) is not None:
        yield from _of_errors(model, rates)
    yield from _of_queue(model, facts.wishes.get(model.name), facts.now)
    if model.rollout is not None:
        yield from _of_rollout(model.rollout)


def _of_serving(facts: Facts, model: Model, state: ServingState) -> Iterator[ProblemView]:
    why = "" if model.rollout is not None else model.condition or _lacking(facts, model)
    workers = [worker for item in facts.statuses[model.name] for worker in item.workers]
    if state is ServingState.UNAVAILABLE:
        advice = _why_none(facts, model, workers)
        yield _model(
            model, Severity.ERROR, f"nothing answers: {why or 'no worker is there'}", advice
        )
    elif state is ServingState.STARTING:
        broken = _last_failure(facts, model)
        severity = Severity.WARNING if broken is None else Severity.ERROR
        sentence = f"nothing answers yet: {why or 'its workers are starting'}"
        advice = (
            "wait: weights are loaded, and a worker serves once it has generated"
            if broken is None
            else _of_failure(broken)
        )
        yield _model(model, severity, sentence, advice)
    elif state is ServingState.DEGRADED:
        sentence = f"answers, but not with all it should have: {why or 'see its workers'}"
        yield _model(model, Severity.WARNING, sentence, _why_less(facts, model, workers))
    elif state is ServingState.READY and why:
        advice = f"modelyard describe model {model.name} has its workers and newest events"
        yield _model(model, Severity.INFO, why, advice)


def _lacking(facts: Facts, model: Model) -> str:
    """As the controller would say it, who has not looked yet."""
    return "; ".join(
        f"{item.name}: {count.ready} of {count.desired} {count.role} ready"
        for item in facts.statuses[model.name]
        for count in item.roles
        if count.ready + count.asleep < count.desired
    )


def _why_none(facts: Facts, model: Model, workers: list[Worker]) -> str:
    if (broken := _last_failure(facts, model)) is not None:
        return _of_failure(broken)
    if workers:
        return f"its workers are on their way out: modelyard describe model {model.name} says why"
    return (
        f"modelyard describe model {model.name} says of each node why it has no place; free "
        "devices, add a node, or ask for less memory"
    )


def _why_less(facts: Facts, model: Model, workers: list[Worker]) -> str:
    if model.degraded:
        return (
            "all workers run and serve badly: compare its KV transfers and their failures with its "
            f"requests (modelyard describe model {model.name}), and read its decode workers' logs"
        )
    if (broken := _last_failure(facts, model)) is not None:
        return _of_failure(broken)
    if any(w.phase in {Phase.ASSIGNED, Phase.PREPARING, Phase.STARTING} for w in workers):
        return "wait: the missing workers are starting"
    return f"modelyard describe model {model.name} says what holds the missing ones back"


def _last_failure(facts: Facts, model: Model) -> Worker | None:
    """The newest in a slot that no ready one has filled since."""
    filled = {
        worker.plan.slot
        for item in facts.statuses[model.name]
        for worker in item.workers
        if worker.phase is Phase.READY
    }
    failed = reversed(facts.failed.get(model.name, ()))
    return next((worker for worker in failed if worker.plan.slot not in filled), None)


def _of_failure(worker: Worker) -> str:
    why = f" ({worker.reason})" if worker.reason else ""
    return f"its last worker failed{why}: modelyard logs {worker.id}"


def _of_errors(model: Model, rates: RatesView) -> Iterator[ProblemView]:
    share = rates.error_rate or 0.0
    if share < _ERRORS_WARN or rates.requests_per_s < _REQUESTS_PER_S_MIN:
        return
    advice = "read the logs of its workers; modelyard events --model {} shows what changed"
    if model.rollout is not None:
        advice = "if it began with the rollout: modelyard rollout abort {}"
    yield _model(
        model,
        Severity.ERROR if share >= _ERRORS_BAD else Severity.WARNING,
        f"{100 * share:.0f} % of its requests fail, of {rates.requests_per_s:.3g} a second",
        advice.format(model.name),
    )


def _of_queue(model: Model, wish: Wish | None, now: float) -> Iterator[ProblemView]:
    if wish is None or not wish.queued or not wish.oldest_at:
        return
    limits, waits_s = model.spec.limits, max(0.0, now - wish.oldest_at)
    full = wish.queued >= _QUEUE_FULL_SHARE * limits.queued
    if full or waits_s >= _QUEUE_FULL_SHARE * limits.queued_s:
        yield _model(
            model,
            Severity.WARNING,
            f"{_many(wish.queued, 'request')} wait for a worker, the oldest for {_span(waits_s)}; "
            "more are about to be refused",
            "give it more workers, if there are devices: modelyard scale "
            f"{model.name}; or lower what its keys may ask for",
        )


def _of_rollout(rollout: Rollout) -> Iterator[ProblemView]:
    where = f"to revision {rollout.to_revision} at {rollout.percent} % of the traffic"
    if rollout.state is RolloutState.STALLED:
        yield ProblemView(
            severity=Severity.ERROR,
            kind=ProblemKind.ROLLOUT,
            name=rollout.model,
            sentence=f"the rollout {where} has failed and stands still: {rollout.reason}",
            advice=f"modelyard rollout abort {rollout.model} brings the old revision back; resume "
            "goes on all the same",
        )
    elif rollout.state is RolloutState.PAUSED:
        yield ProblemView(
            severity=Severity.INFO,
            kind=ProblemKind.ROLLOUT,
            name=rollout.model,
            sentence=f"the rollout {where} waits for somebody: {rollout.reason}",
            advice=f"modelyard rollout resume {rollout.model}, or abort",
        )


def _of_devices(facts: Facts) -> Iterator[ProblemView]:
    for device in facts.snapshot.devices:
        if device.quarantine:
            yield ProblemView(
                severity=Severity.WARNING,
                kind=ProblemKind.DEVICE,
                name=device.id,
                sentence=f"takes no new worker: {device.quarantine}",
                advice=f"end the other program on {device.node}; it is used again by itself then",
            )
        if device.overuse:
            yield ProblemView(
                severity=Severity.WARNING,
                kind=ProblemKind.DEVICE,
                name=device.id,
                sentence=device.overuse,
                advice="let its workers claim what they use (memory in the spec), or lower what "
                "their engine takes",
            )


def _of_proposals(facts: Facts) -> Iterator[ProblemView]:
    for proposal in facts.proposals:
        if proposal.taken is None:
            yield ProblemView(
                severity=Severity.INFO,
                kind=ProblemKind.PROPOSAL,
                name=proposal.model,
                sentence=f"another spec is proposed: {proposal.reason}",
                advice=f"modelyard proposals show {proposal.id}, then take or refuse it",
            )


def _model(model: Model, severity: Severity, sentence: str, advice: str) -> ProblemView:
    return ProblemView(
        severity=severity,
        kind=ProblemKind.MODEL,
        name=model.name,
        sentence=sentence,
        advice=advice,
    )


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _span(seconds: float) -> str:
    """As long as it takes to say it."""
    for unit, length_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds // length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
