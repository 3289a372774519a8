"""Desired against observed. Level-based and pure: (snapshot, now) → what must change.

Nothing is remembered between two calls; back-off is read from the ended workers of a slot.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from pipelines.topology import Gang, expand
from registry.spec import Role
from registry.state import LEAVING_PHASES, Model, Phase, Snapshot, Worker, WorkerPlan

Slot = tuple[str, str, Role, int]

BACKOFF_BASE_S = 1.0
BACKOFF_MAX_S = 60.0
# A worker that served this long before it failed starts the back-off from the beginning.
STABLE_S = 60.0

_FAILURES = frozenset({Phase.FAILED, Phase.LOST})


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """*start*: gangs (or what is missing of them) to place; *reach*: external workers to take up;
    *drain*: workers to take out of traffic and stop; *waiting*: per model, why something missing
    is not started yet.
    """

    start: tuple[Gang, ...]
    reach: Gang
    drain: tuple[str, ...]
    waiting: dict[str, str]


def reconcile(snapshot: Snapshot, now: float) -> Decision:
    live: dict[Slot, list[Worker]] = defaultdict(list)
    for worker in snapshot.workers:
        live[worker.plan.slot].append(worker)
    ended: dict[Slot, list[Worker]] = defaultdict(list)
    for worker in snapshot.ended:
        ended[worker.plan.slot].append(worker)

    wanted: list[Gang] = []
    waiting: dict[str, str] = {}
    kept: set[str] = set()
    for model in snapshot.models:
        for gang in expand(model):
            missing: list[WorkerPlan] = []
            for plan in gang:
                current = _current(plan, live[plan.slot])
                if current is None:
                    missing.append(plan)
                    kept.update(_still_serving(live[plan.slot]))
                    continue
                kept.add(current.id)
                if current.phase is not Phase.READY:
                    kept.update(_still_serving(live[plan.slot]))
            held_back = _held_back(missing, ended, now)
            if held_back:
                waiting[model.name] = held_back
            elif missing:
                wanted.append(tuple(missing))
    drain = tuple(
        worker.id
        for worker in snapshot.workers
        if worker.id not in kept and worker.phase not in LEAVING_PHASES
    )
    return Decision(
        start=tuple(gang for gang in wanted if not gang[0].external),
        reach=tuple(plan for gang in wanted for plan in gang if plan.external),
        drain=drain,
        waiting=waiting,
    )


def _current(plan: WorkerPlan, workers: Sequence[Worker]) -> Worker | None:
    """The worker that fills the slot as the spec now wants it: the ready one, else the oldest."""
    matching = [
        worker
        for worker in workers
        if worker.plan.fingerprint == plan.fingerprint and worker.phase not in LEAVING_PHASES
    ]
    matching.sort(key=lambda worker: (worker.phase is not Phase.READY, worker.created_at))
    return matching[0] if matching else None


def _still_serving(workers: Sequence[Worker]) -> set[str]:
    """Outdated workers go on until their replacement is ready."""
    return {worker.id for worker in workers if worker.phase is Phase.READY}


def _held_back(missing: Sequence[WorkerPlan], ended: dict[Slot, list[Worker]], now: float) -> str:
    """Why the gang waits, or "". A gang waits as a whole: its parts are useless alone."""
    for plan in missing:
        start_at, last = backoff(plan, ended[plan.slot])
        if last is not None and now < start_at:
            at = datetime.fromtimestamp(start_at, UTC).strftime("%H:%M:%S UTC")
            return (
                f"{plan.role} {plan.ordinal} of {plan.variant} starts again at {at}; "
                f"the last one failed: {last.reason}"
            )
    return ""


def backoff(plan: WorkerPlan, ended: Sequence[Worker]) -> tuple[float, Worker | None]:
    """When the slot may be filled again, and the failure that is the reason.

    Doubles with every failure in a row of the same fingerprint, from BACKOFF_BASE_S to
    BACKOFF_MAX_S; a worker that had served for STABLE_S ends the row.
    """
    row: list[Worker] = []
    for worker in sorted(ended, key=lambda worker: worker.ended_at or 0.0, reverse=True):
        if worker.plan.fingerprint != plan.fingerprint or worker.phase not in _FAILURES:
            break
        row.append(worker)
        if _was_stable(worker):
            break
    if not row:
        return 0.0, None
    unstable = sum(not _was_stable(worker) for worker in row)
    delay_s = min(BACKOFF_BASE_S * 2 ** min(unstable - 1, 30), BACKOFF_MAX_S) if unstable else 0.0
    return (row[0].ended_at or 0.0) + delay_s, row[0]


def _was_stable(worker: Worker) -> bool:
    if worker.ready_at is None or worker.ended_at is None:
        return False
    return worker.ended_at - worker.ready_at >= STABLE_S


def make_room(snapshot: Snapshot, gang: Gang) -> tuple[str, ...]:
    """The outdated workers of the gang's own model that a refused replacement may push out.

    The new revision did not fit beside the old one, so the change happens in place. External
    ones stay: they take no room.
    """
    wanted = {plan.slot: plan.fingerprint for plan in gang}
    return tuple(
        worker.id
        for worker in snapshot.workers
        if worker.plan.external is None
        and wanted.get(worker.plan.slot, worker.plan.fingerprint) != worker.plan.fingerprint
        and worker.phase not in LEAVING_PHASES
    )


def condition(model: Model, workers: Sequence[Worker], why: str) -> str:
    """Why the model is not fully served, as a sentence; "" when it is. *why* is what holds its
    missing workers back, if something does.
    """
    parts: list[str] = []
    for variant in model.spec.variants:
        for role, role_spec in variant.topology.roles():
            mine = [
                worker
                for worker in workers
                if worker.plan.variant == variant.name and worker.plan.role is role
            ]
            ready = sum(worker.phase is Phase.READY for worker in mine)
            if ready < role_spec.workers:
                parts.append(f"{variant.name}: {ready} of {role_spec.workers} {role} ready")
    if not parts:
        return ""
    why = why or _unreached(workers)
    return "; ".join([*parts, *([why] if why else [])])


def _unreached(workers: Sequence[Worker]) -> str:
    """What the first external worker that is not ready answers, or does not."""
    reasons = (
        worker.reason
        for worker in workers
        if worker.plan.external and worker.phase is Phase.STARTING and worker.reason
    )
    return next(reasons, "")
