"""What a rollout is decided from, and what may be read off it. Pure."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pipelines.backoff import Slot
from pipelines.rollouts.handovers import WHOLE, Handover, Part
from registry.spec import ModelSpec, Promote
from registry.state import LEAVING_PHASES, Phase, Rollout, RolloutState, Worker, WorkerPlan

_DIED = frozenset({Phase.FAILED, Phase.LOST})
_ASLEEP = frozenset({Phase.FALLING_ASLEEP, Phase.ASLEEP, Phase.WAKING})


def is_proven(worker: Worker) -> bool:
    """Whether it was seen to generate: then one that sleeps is as good as one that is ready. Those
    that were placed asleep were not.
    """
    return worker.phase is Phase.READY or (worker.phase in _ASLEEP and worker.ready_at is not None)


def next_percent(rollout: Rollout) -> int:
    """What the next step gives the new revision; after the last one 100."""
    steps = rollout.policy.canary
    return steps[rollout.step] if rollout.step < len(steps) else WHOLE


def time_is_over_at(rollout: Rollout) -> float:
    """Until when the step that it is at is looked at, in any case. One that somebody leads on, or
    that traffic has left already, was.
    """
    policy = rollout.policy
    if rollout.step == 0 or policy.promote is Promote.MANUAL:
        return rollout.step_at
    if rollout.percent != policy.canary[rollout.step - 1]:
        return rollout.step_at
    watch_s = policy.gate.watch_s if policy.gate else 0.0
    return rollout.step_at + max(policy.pause_s, watch_s)


def moves_on(rollout: Rollout, now: float) -> bool:
    """Whether the workers of the next step are wanted. The gate's word is for the traffic only."""
    return rollout.state is RolloutState.PROGRESSING and now >= time_is_over_at(rollout)


class Scene(msgspec.Struct, frozen=True):
    """What a rollout to the *newest* spec is decided from: the model's live *workers*, and by slot
    those that ended.
    """

    rollout: Rollout
    newest: ModelSpec
    workers: tuple[Worker, ...]
    ended: Mapping[Slot, Sequence[Worker]]
    now: float

    def filling(self, part: Part) -> list[Worker]:
        """Who is in the slots of a part as it wants them, and does not leave."""
        wanted = {plan.slot: plan.fingerprint for plan in part.plans}
        return [
            worker
            for worker in self.workers
            if worker.phase not in LEAVING_PHASES
            and wanted.get(worker.plan.slot) == worker.plan.fingerprint
        ]

    def proven(self, part: Part) -> int:
        """How many of its slots serve."""
        return len({w.plan.slot for w in self.filling(part) if is_proven(w)})

    def living(self, handover: Handover) -> list[Worker]:
        """The workers of its roles, those that leave among them."""
        return [w for w in self.workers if (w.plan.variant, w.plan.role) in handover.keys]

    def served(self, part: Part) -> bool:
        """Whether it is known to work: one of its workers has served."""
        return any(w.ready_at is not None for w in self.filling(part)) or any(self._served(part))

    def last_served_at(self, part: Part) -> float:
        """When the last one that had served ended; 0 where nobody remembers one."""
        return max((worker.ended_at or 0.0 for worker in self._served(part)), default=0.0)

    def _served(self, part: Part) -> Iterator[Worker]:
        for plan in part.plans:
            for worker in self.ended.get(plan.slot, ()):
                if worker.plan.fingerprint == plan.fingerprint and worker.ready_at is not None:
                    yield worker

    def is_lost(self, plan: WorkerPlan) -> bool:
        """Whether its slot's last worker ended by itself or with its machine's Modelyard, not as
        one that made way; and it or one before it had served.
        """
        mine = [w for w in self.ended.get(plan.slot, ()) if w.plan.fingerprint == plan.fingerprint]
        served = any(worker.ready_at is not None for worker in mine)
        return served and (mine[-1].phase in _DIED or not mine[-1].departing)
