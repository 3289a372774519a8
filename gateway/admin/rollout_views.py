"""How far a rollout is, as the admin API tells it. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from gateway.admin.status import worker_order
from gateway.admin.views import View, iso, iso_or_none
from gateway.routing.split import belonging
from gateway.routing.table import build_table
from pipelines.rollouts.gate import Seen, seen
from pipelines.topology import expand
from registry.spec import Gate, ModelSpec, Promote, Role
from registry.state import Model, Phase, Rollout, RolloutState, Snapshot, Worker
from registry.traffic import Latencies, StepTraffic

_MEDIAN = 0.5
_WHOLE = 100  # percent


class RolledRole(View, frozen=True, kw_only=True):
    """Of *wanted* workers, as the revision's own spec counts them, so many are there."""

    variant: str
    role: Role
    wanted: int
    ready: int
    live: int


class RolledSide(View, frozen=True, kw_only=True):
    """A revision with what it has of workers and of the traffic (*percent*), and, as `seen` says
    when: *requests* that ended, and the share of *errors* that workers are to blame for. Null where
    there was nothing to measure.
    """

    revision: int
    percent: int
    roles: tuple[RolledRole, ...]
    requests: int
    error_rate: float | None
    ttft_s: float | None
    tpot_s: float | None


class RevisionPart(View, frozen=True, kw_only=True):
    """A revision of a model that rolls out: its *percent* of the traffic, as gateways split it
    among those that serve now, and by id the *workers* it asks for. What the revisions on both
    sides ask for is in both. Who stands in for the old one is told under the revision that had
    started it.
    """

    revision: int
    percent: float
    roles: tuple[RolledRole, ...]
    workers: tuple[str, ...]


class SeenView(View, frozen=True, kw_only=True):
    """Of which step the numbers of both sides are: when the new revision had *percent* of the
    traffic, from *since* to *until*. Gateways tell of their requests some seconds late.
    """

    percent: int
    since: str
    until: str


class GateView(View, frozen=True, kw_only=True):
    """What the new revision is held to, each field as in the spec's `rollout.gate`."""

    watch_s: float
    requests_min: int
    error_rate_max: float
    ttft_ratio_max: float
    tpot_ratio_max: float


class RolloutView(View, frozen=True, kw_only=True):
    """A way from one revision to another. *reason* says what it waits for, or why it ended;
    *step_at* is when the step began. The numbers in *old* and *new* (medians of times) are *seen*
    at this step; of one that is over, at the last one at which both had traffic; null: none yet.
    """

    model: str
    state: RolloutState
    from_revision: int
    to_revision: int
    step: int
    steps: tuple[int, ...]
    percent: int
    reason: str
    promote: Promote
    pause_s: float
    gate: GateView | None
    created_at: str
    step_at: str
    ended_at: str | None
    old: RolledSide
    new: RolledSide
    seen: SeenView | None


class RolloutList(View, frozen=True, kw_only=True):
    items: tuple[RolloutView, ...]


def rollout_view(
    rollout: Rollout,
    model: Model,
    newest: ModelSpec,
    workers: Iterable[Worker],
    traffic: Iterable[StepTraffic],
) -> RolloutView:
    """*newest* is the spec of its `to_revision`."""
    mine = [worker for worker in workers if worker.plan.model == model.name]
    told = _told(rollout, traffic)
    of_old, of_new = seen(rollout, newest, told)
    old = _as_of(model, rollout.base, rollout.from_revision)
    new = _as_of(model, newest, rollout.to_revision)
    policy = rollout.policy
    return RolloutView(
        model=rollout.model,
        state=rollout.state,
        from_revision=rollout.from_revision,
        to_revision=rollout.to_revision,
        step=rollout.step,
        steps=policy.canary,
        percent=rollout.percent,
        reason=rollout.reason,
        promote=policy.promote,
        pause_s=policy.pause_s,
        gate=_gate_view(policy.gate) if policy.gate is not None else None,
        created_at=iso(rollout.created_at),
        step_at=iso(rollout.step_at),
        ended_at=iso_or_none(rollout.ended_at),
        old=_side(old, _WHOLE - rollout.percent, mine, of_old),
        new=_side(new, rollout.percent, mine, of_new),
        seen=_seen_view(told),
    )


def _told(rollout: Rollout, traffic: Iterable[StepTraffic]) -> list[StepTraffic]:
    """Of a step that has just begun, not what the one before has left."""
    is_shared = rollout.is_active and rollout.percent < _WHOLE
    return [row for row in traffic if not is_shared or row.since == rollout.step_at]


def _seen_view(told: list[StepTraffic]) -> SeenView | None:
    if not told:
        return None
    return SeenView(
        percent=told[0].percent,
        since=iso(told[0].since),
        until=iso(max(row.until for row in told)),
    )


def revision_parts(model: Model, snapshot: Snapshot) -> tuple[RevisionPart, ...]:
    """Oldest first; none of a model that does not roll out."""
    rollout = model.rollout
    if rollout is None or model.deleted:
        return ()
    workers = tuple(worker for worker in snapshot.workers if worker.plan.model == model.name)
    parts = belonging(model, rollout, workers)
    table = build_table(msgspec.structs.replace(snapshot, models=(model,), workers=workers))
    weights: Counter[int] = Counter()
    for row in table.models[model.name].variants:
        weights[row.revision] += row.weight
    old = _as_of(model, rollout.base, rollout.from_revision)
    new = _as_of(model, model.spec, rollout.to_revision)
    between = {
        number: [worker for worker in parts.neither if worker.plan.revision == number]
        for number in {worker.plan.revision for worker in parts.neither}
    }
    found = [
        (old.revision, tuple(_roles(old, workers)), parts.old),
        *((number, tuple(_roles_there(mine)), mine) for number, mine in sorted(between.items())),
        (new.revision, tuple(_roles(new, workers)), parts.new),
    ]
    return tuple(
        RevisionPart(
            revision=number,
            percent=round(_WHOLE * weights[number] / (weights.total() or 1), 1),
            roles=roles,
            workers=tuple(worker.id for worker in sorted(mine, key=worker_order)),
        )
        for number, roles, mine in found
    )


def _roles_there(workers: list[Worker]) -> Iterator[RolledRole]:
    """Of a revision that nobody asks for any more: those it has are those it is to have."""
    for variant, role in sorted({(w.plan.variant, w.plan.role) for w in workers}):
        phases = [w.phase for w in workers if (w.plan.variant, w.plan.role) == (variant, role)]
        yield RolledRole(
            variant=variant,
            role=role,
            wanted=len(phases),
            ready=phases.count(Phase.READY),
            live=len(phases),
        )


def _gate_view(gate: Gate) -> GateView:
    return GateView(
        watch_s=gate.watch_s,
        requests_min=gate.requests_min,
        error_rate_max=gate.error_rate_max,
        ttft_ratio_max=gate.ttft_ratio_max,
        tpot_ratio_max=gate.tpot_ratio_max,
    )


def _as_of(model: Model, spec: ModelSpec, revision: int) -> Model:
    return msgspec.structs.replace(model, spec=spec, revision=revision, rollout=None)


def _side(model: Model, percent: int, workers: list[Worker], did: Seen) -> RolledSide:
    return RolledSide(
        revision=model.revision,
        percent=percent,
        roles=tuple(_roles(model, workers)),
        requests=did.requests,
        error_rate=did.error_rate if did.requests else None,
        ttft_s=_median_s(did.ttft),
        tpot_s=_median_s(did.tpot),
    )


def _roles(model: Model, workers: Sequence[Worker]) -> Iterator[RolledRole]:
    plans = [plan for gang in expand(model) for plan in gang]
    wanted = {plan.slot: plan.fingerprint for plan in plans}
    fitting = [w for w in workers if wanted.get(w.plan.slot) == w.plan.fingerprint]
    for variant, role in dict.fromkeys((plan.variant, plan.role) for plan in plans):
        phases = [w.phase for w in fitting if (w.plan.variant, w.plan.role) == (variant, role)]
        yield RolledRole(
            variant=variant,
            role=role,
            wanted=sum((plan.variant, plan.role) == (variant, role) for plan in plans),
            ready=phases.count(Phase.READY),
            live=len(phases),
        )


def _median_s(times: Latencies) -> float | None:
    return times.quantile_s(_MEDIAN) if times.total else None
