"""Workers of neither revision: a rollout that was superseded had started them. Pure.

They have taken a part of the traffic that the old revision cannot take back where its own workers
made way for them. So they do that work until others can.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from pipelines.rollouts.handovers import WHOLE, Difference, Handover, PartKey
from pipelines.rollouts.scene import Scene, is_proven
from registry.state import LEAVING_PHASES, Worker


class StandIns(msgspec.Struct, frozen=True, kw_only=True):
    """Those of a handover that serve on. *same*: by role of the old revision who do the work of
    that role; *other*: who do theirs in another way, each counted as one worker of every old role.
    """

    same: Mapping[PartKey, tuple[Worker, ...]]
    other: tuple[Worker, ...]

    def __iter__(self) -> Iterator[Worker]:
        for workers in self.same.values():
            yield from workers
        yield from self.other

    def of(self, key: PartKey) -> tuple[Worker, ...]:
        return self.same.get(key, ())


def in_between(scene: Scene, differing: Difference) -> list[Worker]:
    """Those that have served and are of neither revision, those first that had best stay."""
    asked_for = {
        (plan.variant, plan.role, plan.fingerprint)
        for gang in (*differing.gangs, *differing.old_gangs)
        for plan in gang
    }
    found = (
        worker
        for worker in scene.workers
        if worker.phase not in LEAVING_PHASES
        and (is_proven(worker) or worker.ready_at is not None)
        and (*_key(worker), worker.plan.fingerprint) not in asked_for
    )
    return sorted(found, key=lambda w: (w.departing, not is_proven(w), w.created_at, w.id))


def stand_ins(scene: Scene, handover: Handover, workers: Iterable[Worker]) -> StandIns:
    """As many of these *workers* as a handover's old roles lack for their share of the traffic."""
    if scene.rollout.percent >= WHOLE:
        return StandIns(same={}, other=())
    there = tuple(workers)
    lacking = {
        part.key: part.needed(WHOLE - scene.rollout.percent) - scene.proven(part)
        for part in handover.old
    }
    same = {
        key: tuple(w for w in there if _key(w) == key)[: max(0, count)]
        for key, count in lacking.items()
    }
    lacks = any(count > len(same[key]) for key, count in lacking.items())
    other = tuple(w for w in there if _key(w) not in lacking) if lacks else ()
    return StandIns(same=same, other=other)


def by_handover(differing: Difference, workers: Iterable[Worker]) -> list[list[Worker]]:
    """Which of them belong to which handover: by their role, else by their variant. Those of a role
    that stands aside belong to none: they are replaced as in any model.
    """
    handovers = differing.handovers
    found: list[list[Worker]] = [[] for _ in handovers]
    standing = {(plan.variant, plan.role) for plan in differing.standing}
    for worker in workers:
        key = _key(worker)
        mine = [i for i, handover in enumerate(handovers) if key in handover.keys]
        if not mine and key in standing:
            continue
        mine = mine or [
            i
            for i, handover in enumerate(handovers)
            if key[0] in {variant for variant, _ in handover.keys}
        ]
        if handovers:
            found[mine[0] if mine else 0].append(worker)
    return found


def _key(worker: Worker) -> PartKey:
    return worker.plan.variant, worker.plan.role
