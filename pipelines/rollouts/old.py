"""Of the old workers of a lane: who comes again, who stays, who may make way. Pure."""

from collections.abc import Iterator

from pipelines.backoff import Slot
from pipelines.rollouts.lanes import WHOLE, Lane, Part
from pipelines.rollouts.scene import Scene, is_proven, moves_on
from pipelines.rollouts.stand_ins import StandIns
from registry.state import RolloutState, Worker


def again(scene: Scene, part: Part, beside: StandIns) -> Iterator[Slot]:
    """The slots of the old revision that are filled again, as its share of the traffic asks: those
    whose worker served and then ended by itself. Others have made way, or never served.
    """
    serving = {w.plan.slot for w in scene.filling(part) if is_proven(w)}
    lost = [plan for plan in part.plans if plan.slot not in serving and scene.is_lost(plan)]
    needed = part.needed(WHOLE - scene.rollout.percent) - len(beside.of(part.key))
    return (plan.slot for plan in lost[: max(0, needed - len(serving))])


def kept(scene: Scene, part: Part, again: set[Slot]) -> Iterator[Worker]:
    """Old workers that have served, those that are started again to wake up, too; and those that
    come in place of one that did.
    """
    filling = scene.filling(part)
    served = {w.plan.slot for w in filling if is_proven(w) or w.ready_at is not None}
    return (worker for worker in filling if worker.plan.slot in served | again)


def may_go(scene: Scene, lane: Lane, staying: set[str], beside: StandIns) -> Iterator[Worker]:
    """The old workers that may make way, one after the other, those whose successors come first,
    and before them who stands in for one. The rest is enough for the old revision's share of the
    traffic and, where they do the same, with the new ones for the role; less what may be
    unavailable. Those that do their work in another way go last: half of them may be none.
    """
    if scene.rollout.state is not RolloutState.PROGRESSING or lane.is_external:
        return
    others = sorted(beside.other, key=_first_to_go)
    spare_others = len(others)
    for part in lane.old:
        mine = [worker for worker in scene.filling(part) if worker.id in staying]
        doubles = len(mine) - len({worker.plan.slot for worker in mine})
        going = [
            *sorted(beside.of(part.key), key=_first_to_go),
            *sorted(mine, key=_first_to_go),
        ]
        spare = len(going) - doubles + len(others) - _least(scene, lane, part)
        yield from going[: max(0, spare)]
        spare_others = min(spare_others, max(0, spare - len(going)))
    yield from others[:spare_others]


def _least(scene: Scene, lane: Lane, part: Part) -> int:
    """How many old workers of a role serve on, whatever waits for their room."""
    moving = moves_on(scene.rollout, scene.now)
    needed = part.needed(WHOLE - scene.rollout.percent)
    allowed = [other.unavailable for other in lane.new] if moving else [0]
    # Where nobody may come beside the old ones, a pair needs the room of one for each role.
    missing = max(allowed, default=0) if lane.workers_max is None else sum(allowed)
    if lane.is_crossing:
        own = part.unavailable if moving else 0
        return max(needed - max(missing, own), part.minimum)
    size = min(len(part.plans), *(len(other.plans) for other in lane.new))
    new_ready = sum(scene.proven(other) for other in lane.new)
    return max(needed - missing, max(size - missing, part.minimum) - new_ready)


def _first_to_go(worker: Worker) -> tuple[bool, int, float, str]:
    return not worker.departing, worker.plan.ordinal, worker.created_at, worker.id
