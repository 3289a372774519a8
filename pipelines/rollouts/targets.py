"""Which workers of the old and of the new revision are wanted now. Pure.

New workers first, where there is room; old ones stay until the last step, since a rollout that
finds them still there is rolled back at once, unless their room is needed: then as many go as the
traffic's shares and `max_unavailable` leave. Nothing is remembered: all of it is read from the
rollout's step and percent, and from who lives.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pipelines.backoff import Slot
from pipelines.rollouts.handovers import WHOLE, Difference, Handover, difference
from pipelines.rollouts.old import again, kept, may_go
from pipelines.rollouts.scene import Scene, moves_on, next_percent
from pipelines.rollouts.stand_ins import by_handover, in_between, stand_ins
from pipelines.topology import Gang
from registry.spec import Locality
from registry.state import LEAVING_PHASES, Model, Rollout, Worker, WorkerPlan


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A gang of either revision, or what is wanted of it. Only the slots of *may_start* are filled
    where they are empty. A gang that *begins_small* may begin as one worker of each role.
    """

    gang: Gang
    may_start: frozenset[Slot]
    begins_small: bool = False


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted in a *scene*. *staying*: the ids of the workers that go on. *stand_ins* go on,
    too, though they are of neither revision. *may_go*: for each handover the old ones, stand-ins
    among them, that may make way where its new ones find no room, in that order.
    *is_squeezed*: new workers wait because more of them may not live beside the old ones.
    """

    scene: Scene
    shares: tuple[Share, ...]
    staying: frozenset[str]
    stand_ins: tuple[Worker, ...]
    may_go: tuple[tuple[Handover, tuple[Worker, ...]], ...]
    is_squeezed: bool
    difference: Difference

    def replaced(self) -> frozenset[Slot]:
        """The slots of the old revision that others take the place of, or nobody."""
        handovers = self.difference.handovers
        return frozenset(
            p.slot for handover in handovers for part in handover.old for p in part.plans
        )

    def makes_way(self, gang: Gang) -> tuple[Worker, ...] | None:
        """The old workers that may go for a gang of the new revision; None for any other gang."""
        slots = {(plan.slot, plan.fingerprint) for plan in gang}
        for handover, going in self.may_go:
            new = {(plan.slot, plan.fingerprint) for part in handover.new for plan in part.plans}
            if slots & new:
                first = {plan.slot for plan in gang}
                return tuple(sorted(going, key=lambda worker: worker.plan.slot not in first))
        return None


def targets(
    model: Model,
    rollout: Rollout,
    workers: Sequence[Worker],
    ended: Mapping[Slot, Sequence[Worker]],
    now: float,
) -> Targets:
    """*workers* are the model's live ones; *ended* by slot, oldest first."""
    differing = difference(model, rollout, workers)
    scene = Scene(rollout, model.spec, tuple(workers), ended, now)
    between = in_between(scene, differing)
    staying: set[str] = set()
    starts: set[Slot] = {plan.slot for plan in differing.standing}
    old_starts: set[Slot] = set()
    standing_in: set[str] = set()
    going_of: list[tuple[Handover, tuple[Worker, ...]]] = []
    is_squeezed = False
    for handover, there in zip(differing.handovers, by_handover(differing, between), strict=True):
        staying |= {worker.id for part in handover.new for worker in scene.filling(part)}
        beside = stand_ins(scene, handover, there)
        standing_in |= {worker.id for worker in beside}
        anew: set[Slot] = set()
        if rollout.percent < WHOLE:
            anew = again(scene, handover, beside)
            staying |= {w.id for part in handover.old for w in kept(scene, part, anew)}
            old_starts |= anew
        going = tuple(may_go(scene, handover, staying, beside))
        begun, waiting, lacking = _starts(scene, handover, staying | standing_in, anew)
        starts |= begun
        if lacking:
            is_squeezed = True
            if going and (waiting - lacking + len(going) >= _at_least(scene, handover, waiting)):
                gone = {worker.id for worker in going[:lacking]}
                staying -= gone
                standing_in -= gone
                going = going[lacking:]
        going_of.append((handover, going))
    standing = {plan.slot: plan.fingerprint for plan in differing.standing}
    staying |= {
        worker.id for worker in workers if standing.get(worker.plan.slot) == worker.plan.fingerprint
    }
    staying |= {worker.id for worker in between if worker.plan.slot in standing}
    shares = [
        *_old_shares(differing, old_starts),
        *_new_shares(scene, differing, starts),
    ]
    return Targets(
        scene=scene,
        shares=tuple(shares),
        staying=frozenset(staying),
        stand_ins=tuple(worker for worker in between if worker.id in standing_in),
        may_go=tuple(going_of),
        is_squeezed=is_squeezed,
        difference=differing,
    )


def _starts(
    scene: Scene, handover: Handover, staying: set[str], anew: set[Slot]
) -> tuple[set[Slot], int, int]:
    """Which new workers may begin, how many are to, and how many old ones would have to go so that
    all of these may. The old slots that are filled *anew* have their seats already.
    """
    rollout = scene.rollout
    goal = next_percent(rollout) if moves_on(rollout, scene.now) else rollout.percent
    wanted: list[list[WorkerPlan]] = []
    for part in handover.new:
        filled = {worker.plan.slot for worker in scene.filling(part)}
        missing = [plan for plan in part.plans if plan.slot not in filled]
        wanted.append(missing[: max(0, part.needed(goal) - len(filled))])
    count = sum(map(len, wanted))
    most = handover.workers_max
    if most is None or handover.is_external:
        return {plan.slot for plans in wanted for plan in plans}, count, 0
    coming = len(anew - {w.plan.slot for part in handover.old for w in scene.filling(part)})
    stay = coming + sum(worker.id in staying for worker in scene.living(handover))
    chosen = _evenly(scene, handover, wanted, max(0, most - coming - len(scene.living(handover))))
    return {plan.slot for plan in chosen}, count, max(0, min(count, count - (most - stay)))


def _evenly(
    scene: Scene, handover: Handover, wanted: Sequence[list[WorkerPlan]], count: int
) -> Iterator[WorkerPlan]:
    """At most *count* of them, of the role first that is furthest behind."""
    begun = [len({w.plan.slot for w in scene.filling(part)}) for part in handover.new]
    left = [list(plans) for plans in wanted]
    for _ in range(count):
        behind = [
            (begun[index] / len(part.plans), index)
            for index, part in enumerate(handover.new)
            if left[index]
        ]
        if not behind:
            return
        _, index = min(behind)
        begun[index] += 1
        yield left[index].pop(0)


def _at_least(scene: Scene, handover: Handover, waiting: int) -> int:
    """How many must find room for any to be of use: of a pair of which nothing lives one of each
    role.
    """
    if any(scene.filling(part) for part in handover.new):
        return 1
    return min(waiting, *Counter(part.variant for part in handover.new).values())


def _old_shares(differing: Difference, starts: set[Slot]) -> Iterator[Share]:
    changing = {
        p.slot for handover in differing.handovers for part in handover.old for p in part.plans
    }
    for gang in differing.old_gangs:
        mine = tuple(plan for plan in gang if plan.slot in changing)
        if mine:
            yield Share(gang=mine, may_start=frozenset(p.slot for p in mine) & starts)


def _new_shares(scene: Scene, differing: Difference, starts: set[Slot]) -> Iterator[Share]:
    changing = {
        p.slot for handover in differing.handovers for part in handover.new for p in part.plans
    }
    alive = {
        (worker.plan.slot, worker.plan.fingerprint)
        for worker in scene.workers
        if worker.phase not in LEAVING_PHASES
    }
    for gang in differing.gangs:
        mine = tuple(
            plan for plan in gang if plan.slot in starts or (plan.slot, plan.fingerprint) in alive
        )
        whole = {plan.role for plan in gang} == {plan.role for plan in mine}
        may_start = frozenset(plan.slot for plan in mine) & starts if whole else frozenset()
        small = any(plan.slot in changing for plan in gang) and gang[0].locality is Locality.PREFER
        if mine:
            yield Share(gang=mine, may_start=may_start, begins_small=small)
