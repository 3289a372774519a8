"""Why a model is not fully served, in words. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from pipelines.scheduler import Refusal
from pipelines.topology import workers_of
from registry.state import SLEEPING_PHASES, Model, Phase, Rollout, RolloutState, Snapshot, Worker


def condition(model: Model, workers: Sequence[Worker], why: str, *notes: str) -> str:
    """A sentence; "" when the model is served as its spec says. *why* is what holds its missing
    workers back, if something does; *notes* what else is to say: what can't leave although it
    should, which pairs move no KV. While the model changes it says how far that is.
    """
    if model.rollout is not None:
        return "; ".join(part for part in (_changing(model.rollout), why, *notes) if part)
    parts: list[str] = []
    for variant in model.spec.variants:
        for role, role_spec in variant.topology.roles():
            mine = [w for w in workers if (w.plan.variant, w.plan.role) == (variant.name, role)]
            ready = {w.plan.ordinal for w in mine if w.phase is Phase.READY}
            asleep = {w.plan.ordinal for w in mine if w.phase in SLEEPING_PHASES} - ready
            wanted = workers_of(model, variant, role, role_spec)
            if len(ready) + len(asleep) < wanted:
                count = f"{variant.name}: {len(ready)} of {wanted} {role} ready"
                parts.append(f"{count}, {len(asleep)} asleep" if asleep else count)
    if parts:
        parts.append(why or _unreached(workers))
    else:
        parts.append(_asleep(workers))
    return "; ".join(part for part in (*parts, *notes) if part)


def _changing(rollout: Rollout) -> str:
    """Its workers are of two revisions; what it says of itself counts those that it waits for."""
    state = "" if rollout.state is RolloutState.PROGRESSING else f" {rollout.state}"
    return (
        f"rollout to revision {rollout.to_revision}{state}: {rollout.percent} % of the traffic, "
        f"{rollout.reason}"
    )


def _asleep(workers: Sequence[Worker]) -> str:
    """Of a model that has nobody awake; "" of any other."""
    sleepers = [worker for worker in workers if worker.phase in SLEEPING_PHASES]
    if not sleepers or any(worker.phase is Phase.READY for worker in workers):
        return ""
    last = max(sleepers, key=lambda worker: worker.turned_at)
    since = datetime.fromtimestamp(last.turned_at, UTC).strftime(" since %H:%M:%S UTC")
    when = since if last.turned_at else ""
    why = f" ({last.reason})" if last.reason else ""
    return f"asleep{when}{why}: the next request wakes it"


def _unreached(workers: Sequence[Worker]) -> str:
    """What the first external worker that is not ready answers, or does not."""
    reasons = (
        worker.reason
        for worker in workers
        if worker.plan.external and worker.phase is Phase.STARTING and worker.reason
    )
    return next(reasons, "")


def why_refused(snapshot: Snapshot, refusals: Iterable[Refusal]) -> Mapping[str, str]:
    """By model, why its first refused gang has no place or what it waits for, and how its
    predecessor ended, if that was not by failure: preempted, or off a drained node.
    """
    leaving = {w.plan.slot: w for w in snapshot.workers if w.phase is Phase.DRAINING}
    ended = {worker.plan.slot: worker for worker in snapshot.ended}  # the newest of each is last
    sentences: dict[str, str] = {}
    for refusal in refusals:
        if refusal.plan.model in sentences:
            continue
        slot = refusal.plan.slot
        last = _how_it_went(leaving.get(slot) or ended.get(slot))
        parts = [refusal.sentence, last]
        sentences[refusal.plan.model] = "; ".join(part for part in parts if part)
    return sentences


def _how_it_went(last: Worker | None) -> str:
    if last is None or not last.reason or last.phase not in {Phase.DRAINING, Phase.STOPPED}:
        return ""
    return f"the last one went: {last.reason}"
