"""Who makes room where a place is refused. Pure: (snapshot, refusals) → who goes, who stays."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

import msgspec

from pipelines.backoff import Slot
from pipelines.scheduler import Eviction, Reason, Refusal
from registry.spec import Role
from registry.state import LEAVING_PHASES, Phase, Snapshot, Worker

_Part = tuple[str, str, Role]  # a role of a variant of a model


# Of the reasons for a refusal those that may be gone with the predecessor.
_OF_ROOM = frozenset({Reason.NOT_ENOUGH_FREE, Reason.QUOTA, Reason.TOO_FAR, Reason.IN_FOREIGN_USE})


class Room(msgspec.Struct, frozen=True):
    """*go*: by worker, why it is drained although nobody takes its place yet; *stay*: by model,
    why workers that were to go do not.
    """

    go: dict[str, str]
    stay: dict[str, str]

    def __or__(self, other: "Room") -> "Room":
        return Room(self.go | other.go, self.stay | other.stay)


def make_room(
    snapshot: Snapshot,
    refusals: Iterable[Refusal],
    evicted: Iterable[Eviction] = (),
    *,
    changing: Collection[str] = (),
) -> Room:
    """Where a successor found no place, its predecessor goes first: an outdated one, so that the
    change happens where it is, and one that departs, so that its node gets empty. As many as leave
    every role its `min_available` ready workers; those that are placed together go together.

    External ones stay: they take no room. So do those whose successor has a place coming, and
    outdated ones whose successor lacks something else than room. Those who are *evicted* go anyway.
    Of models that are *changing* the outdated ones are no matter of this (`rollouts.give_way`).
    """
    gone = {eviction.worker_id for eviction in evicted}
    room = Room({}, {})
    minimum = {
        (model.name, variant.name, role): spec.min_available
        for model in snapshot.models
        for variant in model.spec.variants
        for role, spec in variant.topology.roles()
    }
    staying = [worker for worker in snapshot.workers if worker.id not in gone]
    ready = Counter(_part(worker) for worker in staying if worker.phase is Phase.READY)
    in_slot: dict[Slot, list[Worker]] = defaultdict(list)
    for worker in staying:
        if worker.phase not in LEAVING_PHASES and worker.plan.external is None:
            in_slot[worker.plan.slot].append(worker)
    for refusal in refusals:
        if refusal.waits_for:
            continue
        fingerprints = {plan.slot: plan.fingerprint for plan in refusal.gang}
        old = [
            worker
            for slot, fingerprint in fingerprints.items()
            for worker in in_slot[slot]
            if worker.departing
            or (worker.plan.fingerprint != fingerprint and worker.plan.model not in changing)
        ]
        if not (room_helps(refusal) or any(worker.departing for worker in old)):
            if old:
                names = ", ".join(sorted(worker.id for worker in old))
                room.stay[refusal.plan.model] = (
                    f"{names} stays: its new revision fits nowhere, {refusal.sentence}"
                )
            continue
        losses = Counter(_part(worker) for worker in old if worker.phase is Phase.READY)
        short = [part for part in losses if ready[part] - losses[part] < minimum.get(part, 0)]
        if short:
            room.stay[refusal.plan.model] = _stays(old, short[0], minimum[short[0]])
            continue
        ready.subtract(losses)
        for worker in old:
            leaves = worker.departing and worker.reason
            room.go[worker.id] = leaves or "makes room for its new revision"
    return room


def room_helps(refusal: Refusal) -> bool:
    return any(why.reason in _OF_ROOM for why in refusal.why)


def _part(worker: Worker) -> _Part:
    return worker.plan.slot[:3]


def _stays(old: Sequence[Worker], short: _Part, minimum: int) -> str:
    names = sorted(worker.id for worker in old if _part(worker) == short)
    nodes = sorted({worker.node for worker in old if _part(worker) == short})
    return (
        f"{', '.join(names)} on {', '.join(nodes)} must go and stays: {short[2]} keeps "
        f"{minimum} ready (min_available), and its successor finds no place"
    )


def hurried(snapshot: Snapshot, refusals: Iterable[Refusal]) -> dict[str, str]:
    """By worker, for whom it has to be quick: its place is waited for at a higher priority."""
    priorities = {model.name: model.spec.priority for model in snapshot.models}
    owners = {worker.id: worker.plan.model for worker in snapshot.workers}
    return {
        worker_id: refusal.plan.model
        for refusal in refusals
        for worker_id in refusal.waits_for
        if worker_id in owners
        and refusal.plan.priority > priorities.get(owners[worker_id], refusal.plan.priority)
    }
