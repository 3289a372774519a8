"""When a slot whose workers failed may be filled again. Pure: read from its ended workers."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from registry.spec import Role
from registry.state import Phase, Worker, WorkerPlan

Slot = tuple[str, str, Role, int]

BACKOFF_BASE_S = 1.0
BACKOFF_MAX_S = 60.0
# A worker that served this long before it failed starts the back-off from the beginning.
STABLE_S = 60.0

_FAILURES = frozenset({Phase.FAILED, Phase.LOST})


def held_back(
    missing: Sequence[WorkerPlan], ended: Mapping[Slot, Sequence[Worker]], now: float
) -> str:
    """Why workers that are placed together wait, or "". One that waits holds up all of them."""
    for plan in missing:
        start_at, last = backoff(plan, ended.get(plan.slot, ()))
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
