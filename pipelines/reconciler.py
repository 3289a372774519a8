"""Desired against observed. Level-based and pure: (snapshot, now) → what must change.

Nothing is remembered between two calls; back-off is read from the ended workers of a slot, and
whether a worker departs from its node's state.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pipelines.backoff import Slot, held_back
from pipelines.rollouts import Share, Targets, targets
from pipelines.topology import Gang, expand
from registry.spec import Locality
from registry.state import (
    LEAVING_PHASES,
    SLEEPING_PHASES,
    Model,
    NodeState,
    Phase,
    Snapshot,
    Worker,
    WorkerPlan,
)

# Who has come up, if only to sleep: nobody has to stay for it.
_IN_PLACE = frozenset({Phase.READY}) | SLEEPING_PHASES
# Where a worker may stay. Of a node that is unknown, nobody knows whether it is to be drained.
_AT_HOME = frozenset({NodeState.READY, NodeState.CORDONED})


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """*start*: gangs (or what is missing of them) to place; *held*: those whose time has not come,
    since the last ones failed, and whose place is kept; *reach*: external workers to take up.
    By worker, with the reason: *drain* who is taken out of traffic and stopped, *depart* who goes
    on until a successor is ready. *keep*: departing workers that stay after all, once the drained
    ones are. *waiting*: per model, why something missing is not started yet.
    """

    start: tuple[Gang, ...]
    held: tuple[Gang, ...]
    reach: Gang
    drain: Mapping[str, str]
    depart: Mapping[str, str]
    keep: tuple[str, ...]
    waiting: Mapping[str, str]
    rollouts: Mapping[str, Targets]


class _Place(msgspec.Struct, kw_only=True):
    """A slot and who is in it: *current* as the spec wants it and to stay; *departing* as the spec
    wants it, but to go; *outdated* of another fingerprint. Those that leave are no more.
    """

    plan: WorkerPlan
    current: Worker | None
    departing: list[Worker]
    outdated: list[Worker]

    @property
    def served_anew(self) -> bool:
        return self.current is not None and self.current.phase in _IN_PLACE

    @property
    def served_before(self) -> bool:
        return any(worker.phase is Phase.READY for worker in self.departing)


class _Outcome(msgspec.Struct):
    """What is collected over all gangs."""

    wanted: list[Gang]
    held: list[Gang]
    kept: set[str]
    taken_back: list[str]
    waiting: dict[str, str]


def reconcile(snapshot: Snapshot, now: float) -> Decision:
    states = {node.name: node.state for node in snapshot.nodes}
    live: dict[Slot, list[Worker]] = defaultdict(list)
    for worker in snapshot.workers:
        if worker.phase not in LEAVING_PHASES:
            live[worker.plan.slot].append(worker)
    ended = ended_by_slot(snapshot)
    outcome = _Outcome([], [], set(), [], {})
    rollouts = _rollouts(snapshot, ended, now)
    for goal in rollouts.values():
        outcome.kept.update(worker.id for worker in goal.stand_ins)
    for model in snapshot.models:
        for share, there in _shares(model, rollouts.get(model.name), live):
            places = [_place_of(plan, there.get(plan.slot, ()), states) for plan in share.gang]
            _take_back(places, states, outcome)
            _keep(places, outcome)
            _want(share, places, ended, now, outcome)
    return Decision(
        start=tuple(gang for gang in outcome.wanted if not gang[0].external),
        held=tuple(gang for gang in outcome.held if not gang[0].external),
        reach=tuple(plan for gang in outcome.wanted for plan in gang if plan.external),
        drain={
            worker.id: _farewell(worker, states)
            for worker in snapshot.workers
            if worker.id not in outcome.kept and worker.phase not in LEAVING_PHASES
        },
        depart={
            worker.id: _farewell(worker, states)
            for worker in snapshot.workers
            if worker.id in outcome.kept
            and not worker.departing
            and states.get(worker.node) is NodeState.DRAINING
        },
        keep=tuple(outcome.taken_back),
        waiting=outcome.waiting,
        rollouts=rollouts,
    )


def _rollouts(
    snapshot: Snapshot, ended: Mapping[Slot, Sequence[Worker]], now: float
) -> dict[str, Targets]:
    """Of models whose base has workers to be replaced. Where it has none, whoever is left of a
    revision in between is replaced as in any model.
    """
    found = {
        model.name: targets(model, model.rollout, workers_of(model, snapshot), ended, now)
        for model in snapshot.models
        if model.rollout is not None and not model.deleted
    }
    return {name: goal for name, goal in found.items() if goal.difference.handovers}


def ended_by_slot(snapshot: Snapshot) -> Mapping[Slot, Sequence[Worker]]:
    """Oldest end first."""
    ended: dict[Slot, list[Worker]] = defaultdict(list)
    for worker in snapshot.ended:
        ended[worker.plan.slot].append(worker)
    return ended


def workers_of(model: Model, snapshot: Snapshot) -> list[Worker]:
    return [worker for worker in snapshot.workers if worker.plan.model == model.name]


def _shares(
    model: Model, rollout: Targets | None, live: Mapping[Slot, Sequence[Worker]]
) -> Iterator[tuple[Share, Mapping[Slot, Sequence[Worker]]]]:
    """What is wanted of each gang, and who may be in its slots: anybody, or, while the model
    changes, who stays and is as the gang wants it; or, where the change replaces nobody, is
    left of a revision in between.
    """
    if rollout is None:
        for gang in expand(model):
            yield Share(gang=gang, may_start=frozenset(plan.slot for plan in gang)), live
        return
    standing = {plan.slot for plan in rollout.difference.standing}
    for share in rollout.shares:
        there: dict[Slot, Sequence[Worker]] = {}
        for plan in share.gang:
            there[plan.slot] = [
                worker
                for worker in live.get(plan.slot, ())
                if worker.id in rollout.staying
                and (worker.plan.fingerprint == plan.fingerprint or plan.slot in standing)
            ]
        yield share, there


def _farewell(worker: Worker, states: Mapping[str, NodeState]) -> str:
    if states.get(worker.node) is NodeState.DRAINING:
        return f"node {worker.node} is drained"
    return (worker.departing and worker.reason) or "no longer wanted"


def _place_of(
    plan: WorkerPlan, workers: Sequence[Worker], states: Mapping[str, NodeState]
) -> _Place:
    """*current* is the ready one, else the oldest."""
    place = _Place(plan=plan, current=None, departing=[], outdated=[])
    for worker in sorted(workers, key=_readiest_first):
        if worker.plan.fingerprint != plan.fingerprint:
            place.outdated.append(worker)
        elif worker.departing or states.get(worker.node) is NodeState.DRAINING:
            place.departing.append(worker)
        elif place.current is None:
            place.current = worker
    return place


def _readiest_first(worker: Worker) -> tuple[bool, float, str]:
    return worker.phase is not Phase.READY, worker.created_at, worker.id


def _move_together(places: Sequence[_Place]) -> bool:
    """Whether the KV of these workers can't go from the old place to the new one."""
    return len(places) > 1 and places[0].plan.locality is not Locality.PREFER


def _take_back(
    places: Sequence[_Place], states: Mapping[str, NodeState], outcome: _Outcome
) -> None:
    """Where a node is drained no more, its workers stay unless their successors are ready.

    Those that move together come back together, where all that moved still serve.
    """
    if _move_together(places):
        partner_stayed = places[0].plan.locality is Locality.FABRIC
        if not all(
            place.served_before or (partner_stayed and place.served_anew) for place in places
        ):
            return
    for place in places:
        back = [worker for worker in place.departing if states.get(worker.node) in _AT_HOME]
        if not back or (place.served_anew and not _move_together(places)):
            continue
        place.departing.remove(back[0])
        place.current = back[0]
        outcome.taken_back.append(back[0].id)


def _keep(places: Sequence[_Place], outcome: _Outcome) -> None:
    """Who is replaced serves until the new one is ready; of those that move together, all do."""
    moved = all(place.served_anew for place in places if place.served_before)
    for place in places:
        if place.current is not None:
            outcome.kept.add(place.current.id)
        still: list[Worker] = []
        if not (moved if _move_together(places) else place.served_anew):
            still += place.departing
        if not place.served_anew:
            still += place.outdated
        outcome.kept.update(worker.id for worker in still if worker.phase is Phase.READY)


def _want(
    share: Share,
    places: Sequence[_Place],
    ended: Mapping[Slot, Sequence[Worker]],
    now: float,
    outcome: _Outcome,
) -> None:
    """While some of a gang live, the missing ones are placed singly: what is left of its ratio
    serves. Otherwise whole, since its parts are useless alone.
    """
    missing = tuple(
        place.plan
        for place in places
        if place.current is None and (place.plan.slot in share.may_start or place.departing)
    )
    lives = any(
        place.current or (place.served_before and not _move_together(places)) for place in places
    )
    for gang in _together(missing, lives=lives, small=share.begins_small):
        why = held_back(gang, ended, now)
        if why:
            outcome.waiting.setdefault(gang[0].model, why)
            outcome.held.append(gang)
        elif gang:
            outcome.wanted.append(gang)


def _together(missing: Gang, *, lives: bool, small: bool) -> list[Gang]:
    """Which of the missing are placed with which. *small*: one worker of each role now, the others
    once these have their places.
    """
    if lives:
        return [(plan,) for plan in missing]
    if not small:
        return [missing]
    first = {plan.role: plan for plan in reversed(missing)}
    return [tuple(plan for plan in missing if first[plan.role] is plan)]
