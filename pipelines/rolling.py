"""Carries out what `pipelines.rollouts` decides: the shell of rollouts.

Each move is one transaction that is made only if nobody moved since, so a controller that is killed
before or after it is no different from one that is late.
"""

from collections.abc import Callable, Iterable

import structlog

from pipelines.reconciler import ended_by_slot, workers_of
from pipelines.rollouts import Move, Step, decide, targets, watches
from pipelines.scheduler import Refusal
from registry.errors import NotFoundError, PlanConflictError
from registry.state import Model, Rollout, Snapshot
from registry.store import Store
from registry.traffic import StepTraffic

log = structlog.get_logger()


class Rolling:
    """Leads the rollouts of all models, a move a turn each."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def turn(self, snapshot: Snapshot, refused: Iterable[Refusal]) -> None:
        """*refused* are the gangs that found no place in this turn."""
        slots = {plan.slot for refusal in refused if not refusal.waits_for for plan in refusal.gang}
        ended = ended_by_slot(snapshot)
        for model in snapshot.models:
            rollout = model.rollout
            if rollout is None or model.deleted:
                continue
            traffic: tuple[StepTraffic, ...] = ()
            if watches(rollout):
                traffic = await self._store.rollout_traffic(model.name, rollout.to_revision)
            now = self._clock()
            wanted = targets(model, rollout, workers_of(model, snapshot), ended, now)
            move = decide(wanted, slots, traffic)
            try:
                await self._make(model, rollout, move)
            except (PlanConflictError, NotFoundError) as error:
                log.info("rollout overtaken, looks again", model=model.name, error=str(error))

    async def _make(self, model: Model, rollout: Rollout, move: Move) -> None:
        name, to, why = model.name, rollout.to_revision, move.reason
        match move.step:
            case Step.ENTER:
                step = rollout.step + 1
                await self._store.enter_step(name, to, step=step, percent=move.percent, reason=why)
            case Step.SHIFT:
                await self._store.shift_traffic(name, to, percent=move.percent, reason=why)
            case Step.FINISH:
                await self._store.finish_rollout(name, to, reason=why)
            case Step.FAIL if rollout.policy.rollback:
                await self._store.roll_back(name, to, reason=why)
            case Step.FAIL:
                await self._store.stall_rollout(name, to, reason=why)
            case Step.WAIT if why != rollout.reason:
                await self._store.say_rollout(name, to, why)
            case Step.WAIT:
                pass
