"""Of the old workers of a handover: who comes again, who stays, who may make way. Pure."""

from collections.abc import Iterator

from pipelines.backoff import Slot
from pipelines.rollouts.handovers import WHOLE, Handover, Part
from pipelines.rollouts.scene import Scene, is_proven, moves_on
from pipelines.rollouts.stand_ins import StandIns
from registry.state import RolloutState, Worker


def again(scene: Scene, handover: Handover, beside: StandIns) -> set[Slot]:
    """The slots of old workers that are filled again, where there is room and within the surge."""
    most = handover.workers_max
    seats = None if most is None else max(0, most - len(scene.living(handover)))
    slots: set[Slot] = set()
    for part in handover.old:
        filled = {worker.plan.slot for worker in scene.filling(part)}
        for slot in _again(scene, handover, part, beside):
            if slot in filled or seats is None:
                slots.add(slot)
            elif seats:
                seats -= 1
                slots.add(slot)
    return slots


def _again(scene: Scene, handover: Handover, part: Part, beside: StandIns) -> Iterator[Slot]:
    """As the old revision's share of the traffic asks, those whose worker served and then ended by
    itself. Who was told to go made way, or was evicted: of those as many as the role lacks and no
    new worker is there for.
    """
    filled = {worker.plan.slot for worker in scene.filling(part)}
    serving = {w.plan.slot for w in scene.filling(part) if is_proven(w)}
    missing = sorted(
        (plan for plan in part.plans if plan.slot not in serving),
        key=lambda plan: plan.slot not in filled,
    )
    lost = [plan.slot for plan in missing if scene.is_lost(plan)]
    others = [plan.slot for plan in missing if plan.slot not in lost] if scene.served(part) else []
    stay = [w for w in (*beside.of(part.key), *beside.other) if not w.departing]
    has = len(serving) + len(stay)
    lost = lost[: max(0, part.needed(WHOLE - scene.rollout.percent) - has)]
    yield from lost
    yield from others[: max(0, _eroded_below(scene, handover, part) - has - len(lost))]


def _eroded_below(scene: Scene, handover: Handover, part: Part) -> int:
    """With how many old workers more have gone than made way. While the next step's workers come,
    old ones go for them; else what the new ones do not make up for is lost, by whatever way.
    """
    least = _least(scene, handover, part, moving=True)
    if moves_on(scene.rollout, scene.now):
        return least
    needed = part.needed(WHOLE - scene.rollout.percent)
    if handover.is_crossing:
        return needed
    new = sum(len({w.plan.slot for w in scene.filling(other)}) for other in handover.new)
    return max(least, min(needed, len(part.plans) - new))


def kept(scene: Scene, part: Part, again: set[Slot]) -> Iterator[Worker]:
    """Old workers that have served, those that are started again to wake up, too; and those that
    come in place of one that did.
    """
    filling = scene.filling(part)
    served = {w.plan.slot for w in filling if is_proven(w) or w.ready_at is not None}
    return (worker for worker in filling if worker.plan.slot in served | again)


def may_go(
    scene: Scene, handover: Handover, staying: set[str], beside: StandIns
) -> Iterator[Worker]:
    """The old workers that may make way, one after the other, those whose successors come first,
    and before them who stands in for one. The rest is enough for the old revision's share of the
    traffic and, where they do the same, with the new ones for the role; less what may be
    unavailable. Those that do their work in another way go last: half of them may be none.
    """
    if scene.rollout.state is not RolloutState.PROGRESSING or handover.is_external:
        return
    others = sorted(beside.other, key=_first_to_go)
    spare_others = len(others)
    moving = moves_on(scene.rollout, scene.now)
    for part in handover.old:
        mine = [worker for worker in scene.filling(part) if worker.id in staying]
        doubles = len(mine) - len({worker.plan.slot for worker in mine})
        going = [
            *sorted(beside.of(part.key), key=_first_to_go),
            *sorted(mine, key=_first_to_go),
        ]
        spare = len(going) - doubles + len(others) - _least(scene, handover, part, moving=moving)
        yield from going[: max(0, spare)]
        spare_others = min(spare_others, max(0, spare - len(going)))
    yield from others[:spare_others]


def _least(scene: Scene, handover: Handover, part: Part, *, moving: bool) -> int:
    """How many old workers of a role serve on, whatever waits for their room; none may be
    unavailable but where the next step's workers are *moving* in.
    """
    needed = part.needed(WHOLE - scene.rollout.percent)
    allowed = [other.unavailable for other in handover.new] if moving else [0]
    # Where nobody may come beside the old ones, a pair needs the room of one for each role.
    missing = max(allowed, default=0) if handover.workers_max is None else sum(allowed)
    if handover.is_crossing:
        own = part.unavailable if moving else 0
        return max(needed - max(missing, own), part.minimum)
    size = min(len(part.plans), *(len(other.plans) for other in handover.new))
    new_ready = sum(scene.proven(other) for other in handover.new)
    return max(needed - missing, max(size - missing, part.minimum) - new_ready)


def _first_to_go(worker: Worker) -> tuple[bool, int, float, str]:
    return not worker.departing, worker.plan.ordinal, worker.created_at, worker.id
