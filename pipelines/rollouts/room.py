"""Where the new revision finds no place: who of the old one makes way. Pure."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping

import msgspec

from pipelines.departures import Room, room_helps
from pipelines.rollouts.targets import Targets
from pipelines.scheduler import Eviction, Refusal, RuntimeOf, place
from registry.state import LEAVING_PHASES, Snapshot

_STAY = (
    "the old workers do not make way: their share of the traffic, max_unavailable and "
    "min_available keep them"
)


def give_way(
    snapshot: Snapshot,
    refusals: Iterable[Refusal],
    rollouts: Mapping[str, Targets],
    runtime_of: RuntimeOf,
    evicted: Iterable[Eviction] = (),
) -> Room:
    """For one gang of each changing model the old workers that its targets let go: as few as
    suffice, and none where all of them would not.
    """
    room, seen = Room({}, {}), {eviction.model for eviction in evicted}
    models = {worker.id: worker.plan.model for worker in snapshot.workers}
    seen |= {models.get(eviction.worker_id, "") for eviction in evicted}
    refusals = tuple(refusals)
    for refusal in refusals:
        model = refusal.plan.model
        rollout = rollouts.get(model)
        if rollout is None or model in seen or refusal.waits_for or not room_helps(refusal):
            continue
        going = rollout.makes_way(refusal.gang)
        if going is None:
            continue
        seen.add(model)
        names = [worker.id for worker in going if worker.id in models]
        count = _fewest(snapshot, refusal, refusals, names, runtime_of)
        if count is None:
            room.stay[model] = _STAY
        else:
            room.go.update(dict.fromkeys(names[:count], "makes room for its new revision"))
    return room


def _fewest(
    snapshot: Snapshot,
    refusal: Refusal,
    refusals: Iterable[Refusal],
    names: list[str],
    runtime_of: RuntimeOf,
) -> int | None:
    """How many of *names*, from the first on, must go for the refused gang, beside those that leave
    already and what waits for their places.
    """
    before = [other.gang for other in refusals if other.waits_for]
    leaving = {worker.id for worker in snapshot.workers if worker.phase in LEAVING_PHASES}

    def finds_place(count: int) -> bool:
        free = _without(snapshot, leaving.union(names[:count]))
        refused = place(free, [*before, refusal.gang], runtime_of).refused
        return all(other.gang != refusal.gang for other in refused)

    if not finds_place(len(names)):
        return None
    return bisect_left(range(len(names)), True, key=finds_place)


def _without(snapshot: Snapshot, names: Collection[str]) -> Snapshot:
    """As it is once these workers have ended."""
    return msgspec.structs.replace(
        snapshot,
        workers=tuple(worker for worker in snapshot.workers if worker.id not in names),
        claims=tuple(claim for claim in snapshot.claims if claim.worker_id not in names),
    )
