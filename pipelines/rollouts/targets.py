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
from pipelines.rollouts.lanes import WHOLE, Difference, Lane, Part, difference
from pipelines.topology import Gang
from registry.spec import Locality, ModelSpec, Promote
from registry.state import (
    LEAVING_PHASES,
    Model,
    Phase,
    Rollout,
    RolloutState,
    Worker,
    WorkerPlan,
)

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


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A gang of either revision, or what is wanted of it. Only the slots of *may_start* are filled
    where they are empty. A gang that *begins_small* may begin as one worker of each role.
    """

    gang: Gang
    may_start: frozenset[Slot]
    begins_small: bool = False


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted in a *scene*. *staying*: the ids of the workers that go on. *may_go*: for each
    lane the old ones that may make way where its new ones find no room, in that order.
    *is_squeezed*: new workers wait because more of them may not live beside the old ones.
    """

    scene: Scene
    shares: tuple[Share, ...]
    staying: frozenset[str]
    may_go: tuple[tuple[Lane, tuple[Worker, ...]], ...]
    is_squeezed: bool
    difference: Difference

    def replaced(self) -> frozenset[Slot]:
        """The slots of the old revision that others take the place of, or nobody."""
        lanes = self.difference.lanes
        return frozenset(p.slot for lane in lanes for part in lane.old for p in part.plans)

    def makes_way(self, gang: Gang) -> tuple[Worker, ...] | None:
        """The old workers that may go for a gang of the new revision; None for any other gang."""
        slots = {(plan.slot, plan.fingerprint) for plan in gang}
        for lane, going in self.may_go:
            new = {(plan.slot, plan.fingerprint) for part in lane.new for plan in part.plans}
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
    staying: set[str] = set()
    starts: set[Slot] = {plan.slot for plan in differing.standing}
    old_starts: set[Slot] = set()
    may_go: list[tuple[Lane, tuple[Worker, ...]]] = []
    is_squeezed = False
    for lane in differing.lanes:
        staying |= {worker.id for part in lane.new for worker in scene.filling(part)}
        if rollout.percent < WHOLE:
            again = {slot for part in lane.old for slot in _again(scene, part)}
            staying |= {w.id for part in lane.old for w in _kept(scene, part, again)}
            old_starts |= again
        going = tuple(_may_go(scene, lane, staying))
        begun, waiting, lacking = _starts(scene, lane, staying)
        starts |= begun
        if lacking:
            is_squeezed = True
            if going and (waiting - lacking + len(going) >= _at_least(scene, lane, waiting)):
                staying -= {worker.id for worker in going[:lacking]}
                going = going[lacking:]
        may_go.append((lane, going))
    standing = {plan.slot: plan.fingerprint for plan in differing.standing}
    staying |= {
        worker.id for worker in workers if standing.get(worker.plan.slot) == worker.plan.fingerprint
    }
    shares = [
        *_old_shares(differing, old_starts),
        *_new_shares(scene, differing, starts),
    ]
    return Targets(
        scene=scene,
        shares=tuple(shares),
        staying=frozenset(staying),
        may_go=tuple(may_go),
        is_squeezed=is_squeezed,
        difference=differing,
    )


def _again(scene: Scene, part: Part) -> Iterator[Slot]:
    """The slots of the old revision that are filled again, as its share of the traffic asks: those
    whose worker served and then ended by itself. Others have made way, or never served.
    """
    serving = {w.plan.slot for w in scene.filling(part) if is_proven(w)}
    lost = [plan for plan in part.plans if plan.slot not in serving and scene.is_lost(plan)]
    needed = part.needed(WHOLE - scene.rollout.percent)
    return (plan.slot for plan in lost[: max(0, needed - len(serving))])


def _kept(scene: Scene, part: Part, again: set[Slot]) -> Iterator[Worker]:
    """Old workers that have served, those that are started again to wake up, too; and those that
    come in place of one that did.
    """
    filling = scene.filling(part)
    served = {w.plan.slot for w in filling if is_proven(w) or w.ready_at is not None}
    return (worker for worker in filling if worker.plan.slot in served | again)


def _may_go(scene: Scene, lane: Lane, staying: set[str]) -> Iterator[Worker]:
    """The old workers that may make way, one after the other, those whose successors come first.
    The rest is enough for the old revision's share of the traffic and, where they do the same,
    with the new ones for the role; less what may be unavailable.
    """
    if scene.rollout.state is not RolloutState.PROGRESSING or lane.is_external:
        return
    moving = moves_on(scene.rollout, scene.now)
    allowed = [part.unavailable for part in lane.new] if moving else [0]
    # Where nobody may come beside the old ones, a pair needs the room of one for each role.
    missing = max(allowed, default=0) if lane.workers_max is None else sum(allowed)
    new_ready = sum(scene.proven(part) for part in lane.new)
    for part in lane.old:
        needed = part.needed(WHOLE - scene.rollout.percent)
        if lane.is_crossing:
            own = part.unavailable if moving else 0
            floor = max(needed - max(missing, own), part.minimum)
        else:
            size = min(len(part.plans), *(len(other.plans) for other in lane.new))
            least = max(size - missing, part.minimum) - new_ready
            floor = max(needed - missing, least)
        mine = [worker for worker in scene.filling(part) if worker.id in staying]
        left = len({worker.plan.slot for worker in mine})
        yield from sorted(mine, key=_first_to_go)[: max(0, left - floor)]


def _first_to_go(worker: Worker) -> tuple[bool, int, float, str]:
    return not worker.departing, worker.plan.ordinal, worker.created_at, worker.id


def _starts(scene: Scene, lane: Lane, staying: set[str]) -> tuple[set[Slot], int, int]:
    """Which new workers may begin, how many are to, and how many old ones would have to go so that
    all of these may.
    """
    rollout = scene.rollout
    goal = next_percent(rollout) if moves_on(rollout, scene.now) else rollout.percent
    wanted: list[list[WorkerPlan]] = []
    for part in lane.new:
        filled = {worker.plan.slot for worker in scene.filling(part)}
        missing = [plan for plan in part.plans if plan.slot not in filled]
        wanted.append(missing[: max(0, part.needed(goal) - len(filled))])
    count = sum(map(len, wanted))
    most = lane.workers_max
    if most is None or lane.is_external:
        return {plan.slot for plans in wanted for plan in plans}, count, 0
    mine = [worker for worker in scene.workers if _key(worker) in lane.keys]
    stay = sum(worker.id in staying for worker in mine)
    chosen = _evenly(scene, lane, wanted, max(0, most - len(mine)))
    return {plan.slot for plan in chosen}, count, max(0, min(count, count - (most - stay)))


def _key(worker: Worker) -> tuple[str, str]:
    return worker.plan.variant, worker.plan.role


def _evenly(
    scene: Scene, lane: Lane, wanted: Sequence[list[WorkerPlan]], count: int
) -> Iterator[WorkerPlan]:
    """At most *count* of them, of the role first that is furthest behind."""
    begun = [len({w.plan.slot for w in scene.filling(part)}) for part in lane.new]
    left = [list(plans) for plans in wanted]
    for _ in range(count):
        behind = [
            (begun[index] / len(part.plans), index)
            for index, part in enumerate(lane.new)
            if left[index]
        ]
        if not behind:
            return
        _, index = min(behind)
        begun[index] += 1
        yield left[index].pop(0)


def _at_least(scene: Scene, lane: Lane, waiting: int) -> int:
    """How many must find room for any to be of use: of a pair of which nothing lives one of each
    role.
    """
    if any(scene.filling(part) for part in lane.new):
        return 1
    return min(waiting, *Counter(part.variant for part in lane.new).values())


def _old_shares(differing: Difference, starts: set[Slot]) -> Iterator[Share]:
    changing = {p.slot for lane in differing.lanes for part in lane.old for p in part.plans}
    for gang in differing.old_gangs:
        mine = tuple(plan for plan in gang if plan.slot in changing)
        if mine:
            yield Share(gang=mine, may_start=frozenset(p.slot for p in mine) & starts)


def _new_shares(scene: Scene, differing: Difference, starts: set[Slot]) -> Iterator[Share]:
    changing = {p.slot for lane in differing.lanes for part in lane.new for p in part.plans}
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
