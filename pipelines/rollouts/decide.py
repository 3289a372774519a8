"""What a rollout does next. Pure: (what is wanted, who serves, traffic, now) → one move."""

from collections.abc import Collection, Iterable
from enum import StrEnum

import msgspec

from pipelines.backoff import Slot, backoff
from pipelines.rollouts.gate import Outcome, Verdict, judge
from pipelines.rollouts.handovers import WHOLE, Part
from pipelines.rollouts.scene import (
    Scene,
    is_proven,
    moves_on,
    next_percent,
    time_is_over_at,
)
from pipelines.rollouts.targets import Targets
from registry.spec import Promote
from registry.state import LEAVING_PHASES, Rollout, RolloutState, Worker
from registry.traffic import StepTraffic


class Step(StrEnum):
    """What happens to a rollout."""

    WAIT = "wait"
    ENTER = "enter"  # the next step of its policy
    SHIFT = "shift"  # more traffic between two steps, as old workers must make way
    FINISH = "finish"
    FAIL = "fail"  # it is rolled back, or stands still


class Move(msgspec.Struct, frozen=True):
    """*percent* is what the new revision takes from now on; *reason* a sentence for people."""

    step: Step
    reason: str
    percent: int = 0


def watches(rollout: Rollout) -> bool:
    """Whether its traffic is looked at: while both revisions have some."""
    return rollout.policy.gate is not None and 0 < rollout.percent < WHOLE


def decide(goal: Targets, refused: Collection[Slot], traffic: Iterable[StepTraffic]) -> Move:
    """*refused* are the slots that found no place in this turn and have none coming, *traffic* what
    `watches` asks for.
    """
    scene, rollout = goal.scene, goal.scene.rollout
    if not goal.difference.handovers:
        return Move(Step.FINISH, "no worker had to be replaced", WHOLE)
    if rollout.percent >= WHOLE:
        if _old(goal):
            return Move(Step.WAIT, "the old workers leave")
        return Move(Step.FINISH, "the new revision serves alone", WHOLE)
    verdict = _verdict(scene, traffic)
    if verdict.outcome is Outcome.FAILED and rollout.state is not RolloutState.STALLED:
        return Move(Step.FAIL, f"the gate failed: {verdict.why}")
    why = _stays(rollout, verdict, scene.now)
    if why and (lacking := _lacking(goal)):
        return Move(Step.FAIL, f"for {rollout.policy.ready_s:g} s only {_ready(scene, lacking)}")
    return Move(Step.WAIT, why) if why else _go_on(goal, refused)


def _verdict(scene: Scene, traffic: Iterable[StepTraffic]) -> Verdict:
    rollout = scene.rollout
    gate = rollout.policy.gate
    if gate is None or not watches(rollout):
        return Verdict(Outcome.PASSED)
    return judge(gate, rollout, scene.newest, traffic, scene.now)


def _stays(rollout: Rollout, verdict: Verdict, now: float) -> str:
    """Why it stays at this step, or "". Who leads on by hand has seen enough; and where it was left
    already, it was seen before.
    """
    policy = rollout.policy
    if rollout.state is not RolloutState.PROGRESSING:
        return rollout.reason
    if rollout.step == 0 or policy.promote is Promote.MANUAL:
        return ""
    if rollout.percent != policy.canary[rollout.step - 1]:
        return ""
    if verdict.outcome is Outcome.WAITS:
        return verdict.why
    return "" if moves_on(rollout, now) else f"stays there for {policy.pause_s:g} s"


def _lacking(goal: Targets) -> list[Part]:
    """The new roles whose workers have all gone at this step, and for too long: no gate would see
    it, since the old revision answers in their place.
    """
    scene, rollout = goal.scene, goal.scene.rollout
    if rollout.state is not RolloutState.PROGRESSING:
        return []
    return [
        part
        for handover in goal.difference.handovers
        for part in handover.new
        if not scene.proven(part)
        and scene.now >= max(rollout.step_at, scene.last_served_at(part)) + rollout.policy.ready_s
    ]


def _go_on(goal: Targets, refused: Collection[Slot]) -> Move:
    """Into the next step as soon as it has workers enough; or nearer to it."""
    scene, rollout = goal.scene, goal.scene.rollout
    percent = next_percent(rollout)
    new = [part for handover in goal.difference.handovers for part in handover.new]
    short = [part for part in new if scene.proven(part) < part.needed(percent)]
    if not short:
        return Move(Step.ENTER, _ready(scene, new) or "nothing new has to start", percent)
    told = _ready(scene, short)
    squeezed = goal.is_squeezed or any(
        plan.slot in refused for part in short for plan in part.plans
    )
    share = min(-(-WHOLE * scene.proven(part) // len(part.plans)) for part in new)
    if squeezed and rollout.percent < share < percent:
        return Move(Step.SHIFT, f"{told}, and old workers make way for more", share)
    if squeezed and _is_all_there_will_be(goal):
        return Move(Step.ENTER, f"{told}, and there is no room for more", percent)
    if scene.now >= time_is_over_at(rollout) + rollout.policy.ready_s:
        return Move(
            Step.FAIL, f"after {rollout.policy.ready_s:g} s only {told}{_died(scene, short)}"
        )
    return Move(Step.WAIT, f"{told} for {percent} % of the traffic")


def _is_all_there_will_be(goal: Targets) -> bool:
    """Nobody is left to make way or leaves, and of each new role all that found room serve."""
    if any(worker.phase in LEAVING_PHASES for worker in goal.scene.workers):
        return False
    new = [
        goal.scene.filling(part) for handover in goal.difference.handovers for part in handover.new
    ]
    return not _old(goal) and all(
        workers and all(is_proven(worker) for worker in workers) for workers in new
    )


def _died(scene: Scene, parts: Iterable[Part]) -> str:
    """How the newest worker of these parts failed, "" where none did."""
    plans = [plan for part in parts for plan in part.plans]
    found = [backoff(plan, scene.ended.get(plan.slot, ()))[1] for plan in plans]
    failed = [worker for worker in found if worker is not None and worker.reason]
    if not failed:
        return ""
    return f"; the last one failed: {max(failed, key=lambda w: w.ended_at or 0.0).reason}"


def _old(goal: Targets) -> list[Worker]:
    """The workers that only the old revision has, and who stands in for them, but for those that
    leave.
    """
    return [
        *(
            w
            for handover in goal.difference.handovers
            for p in handover.old
            for w in goal.scene.filling(p)
        ),
        *goal.stand_ins,
    ]


def _ready(scene: Scene, parts: Collection[Part]) -> str:
    return ", ".join(
        f"{part.variant}: {scene.proven(part)} of {len(part.plans)} {part.role} ready"
        for part in parts
    )
