"""What applying specs would do: the controller's own turns, thought through and not done. Pure.

The first turn is what the controller would do now. The later ones assume that what leaves has
ended, what starts is ready, and nobody waits after a failure: so they tell what comes then.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from pipelines.awake.places import place_awake_or_asleep
from pipelines.backoff import Slot
from pipelines.departures import make_room
from pipelines.owners import OwnerUse, uses
from pipelines.reconciler import Decision, reconcile, workers_of
from pipelines.rollouts import Step, decide, give_way, targets
from pipelines.scheduler import Proposal, Refusal, RuntimeOf
from pipelines.topology import expand
from pipelines.turnover import as_applied, comes_from
from registry.spec import ModelSpec, Promote
from registry.state import (
    LEAVING_PHASES,
    Claim,
    Model,
    Phase,
    PlannedWorker,
    Rollout,
    RolloutState,
    SleepMode,
    Snapshot,
    Worker,
    WorkerPlan,
)

TURNS_MAX = 64  # a rollout where room is short takes some for each worker
_AT_REST = frozenset({Phase.READY, Phase.ASLEEP})


class Change(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class Cause(StrEnum):
    """Why a worker would stop."""

    REMOVED = "removed"  # no spec asks for it any more
    OUTDATED = "outdated"  # one of its model's new revision takes its slot
    DEPARTING = "departing"  # its node is drained
    EVICTED = "evicted"  # a model of a higher priority needs its place
    LEAVING = "leaving"  # it does so already


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that would start: at once, or *after* these have ended. *replaces* is the worker of
    before in its slot, "" for a new one. One that is placed *asleep* starts when it is asked for.
    """

    worker: PlannedWorker
    turn: int
    asleep: bool = False
    replaces: str = ""
    after: tuple[str, ...] = ()


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that would stop: in the first turn at once, later once what replaces it is ready."""

    worker: Worker
    turn: int
    cause: Cause
    sentence: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """*changes* by model; *waiting* by model: why something of it starts later; *refused*: what
    would have no place in the end; *staying* by model: who should go and cannot.
    """

    changes: dict[str, Change]
    kept: tuple[Worker, ...]
    starts: tuple[Start, ...]
    stops: tuple[Stop, ...]
    reached: tuple[WorkerPlan, ...]
    waiting: Mapping[str, str]
    staying: Mapping[str, str]
    refused: tuple[Refusal, ...]
    uses: tuple[OwnerUse, ...]

    @property
    def is_complete(self) -> bool:
        """Everything finds a place."""
        return not self.refused


def plan(snapshot: Snapshot, specs: Sequence[ModelSpec], now: float, runtime_of: RuntimeOf) -> Plan:
    """What applying *specs* would do; with none, what is to be done as it is."""
    begin, changes = with_specs(snapshot, specs, now)
    course = _Course(begin, now, runtime_of)
    course.run()
    standing = {worker.id for worker in course.snapshot.workers}
    return Plan(
        changes=changes,
        kept=tuple(worker for worker in begin.workers if worker.id in standing),
        starts=tuple(course.starts.values()),
        stops=tuple(course.stops.values()),
        reached=course.first.reach,
        waiting=course.first.waiting,
        staying=course.staying,
        refused=course.refused,
        uses=uses(begin, course.snapshot),
    )


def refusals_of(
    snapshot: Snapshot, model: str, now: float, runtime_of: RuntimeOf
) -> tuple[Refusal, ...]:
    """Why what the model lacks has no place now: it alone, as if nobody else waited for one."""
    decision = reconcile(snapshot, now)
    missing = [gang for gang in decision.start if gang[0].model == model]
    if not missing:
        return ()
    return place_awake_or_asleep(
        _carried_out(snapshot, decision), missing, runtime_of, now, held=decision.held
    ).refused


def refusals(snapshot: Snapshot, now: float, runtime_of: RuntimeOf) -> tuple[Refusal, ...]:
    """Why what has no place anywhere has none. `refusals.on_node` tells it of one node."""
    decision = reconcile(snapshot, now)
    return place_awake_or_asleep(
        _carried_out(snapshot, decision), decision.start, runtime_of, now, held=decision.held
    ).refused


def with_specs(
    snapshot: Snapshot, specs: Iterable[ModelSpec], now: float
) -> tuple[Snapshot, dict[str, Change]]:
    """The snapshot as it would be with *specs* applied, and what each of them changes."""
    models = {model.name: model for model in snapshot.models}
    changes: dict[str, Change] = {}
    for spec in specs:
        before = models.get(spec.name)
        if before is not None and not before.deleted and before.spec == spec:
            changes[spec.name] = Change.UNCHANGED
            continue
        new = before is None or before.deleted
        changes[spec.name] = Change.CREATED if new else Change.CHANGED
        applied = as_applied(before, spec, now)
        rollout = _rollout(None if new else before, spec, now)
        models[spec.name] = msgspec.structs.replace(applied, rollout=rollout)
    ordered = tuple(models[name] for name in sorted(models))
    return msgspec.structs.replace(snapshot, models=ordered), changes


def _rollout(before: Model | None, spec: ModelSpec, now: float) -> Rollout | None:
    """What applying *spec* would begin, as the registry does it."""
    if before is None:
        return None
    from_revision, base = comes_from(before)
    return Rollout(
        model=spec.name,
        from_revision=from_revision,
        to_revision=before.revision + 1,
        base=base,
        policy=spec.rollout,
        state=RolloutState.PROGRESSING,
        step=0,
        percent=0,
        step_at=now,
        reason="",
        created_at=now,
        ended_at=None,
    )


class _Course:
    """The turns from a snapshot on, until nothing moves any more."""

    def __init__(self, snapshot: Snapshot, now: float, runtime_of: RuntimeOf) -> None:
        self.snapshot = snapshot
        self.starts: dict[str, Start] = {}  # by the id that the worker gets here
        self.stops: dict[str, Stop] = {}
        self.refused: tuple[Refusal, ...] = ()
        self.staying: dict[str, str] = {}
        self._now, self._runtime_of = now, runtime_of
        self._real = {worker.id: worker for worker in snapshot.workers}
        self._before = {worker.plan.slot: worker.id for worker in snapshot.workers}
        self._held = _held(snapshot)
        self._waits: dict[Slot, set[str]] = {}  # slot → whose end it waits for
        self.first = reconcile(snapshot, now)

    def run(self) -> None:
        for turn in range(1, TURNS_MAX + 1):
            decision = self.first if turn == 1 else reconcile(self.snapshot, self._now)
            self.snapshot = _carried_out(self.snapshot, decision)
            proposal = place_awake_or_asleep(
                self.snapshot, decision.start, self._runtime_of, self._now, held=decision.held
            )
            self.refused = proposal.refused
            leaving = self._leaving(turn, decision, proposal)
            moved = self._start(turn, proposal)
            coming_up = any(worker.phase not in _AT_REST for worker in self.snapshot.workers)
            held_back = bool(turn == 1 and decision.waiting)
            changed = bool(decision.depart or decision.keep)
            goes_on = bool(moved or leaving or coming_up or held_back or changed)
            if goes_on:
                self._settle(leaving)
            if not (self._roll() or goes_on):
                return

    def _roll(self) -> bool:
        """Rollouts take their next steps, as if everything went well and nobody had to wait."""
        slots = {p.slot for refusal in self.refused for p in refusal.gang if not refusal.waits_for}
        rolled = {
            model.name: _rolled(model, self.snapshot, slots, self._now)
            for model in self.snapshot.models
            if model.rollout is not None and not model.deleted
        }
        before = self.snapshot.models
        after = tuple(rolled.get(model.name, model) for model in before)
        self.snapshot = msgspec.structs.replace(self.snapshot, models=after)
        return after != before

    def _leaving(self, turn: int, decision: Decision, proposal: Proposal) -> set[str]:
        """Who ends before the next turn, each told of once."""
        wanted = {
            plan.slot: plan.fingerprint
            for model in self.snapshot.models
            for gang in expand(model)
            for plan in gang
        }
        for rollout in decision.rollouts.values():
            # Whoever is replaced by workers of another shape is outdated, too.
            wanted |= dict.fromkeys(rollout.replaced() - wanted.keys(), "")
        workers = {worker.id: worker for worker in self.snapshot.workers}
        ends: dict[str, tuple[Cause, str]] = {}
        for worker in self.snapshot.workers:
            if worker.phase in LEAVING_PHASES and worker.id not in decision.drain:
                ends[worker.id] = (Cause.LEAVING, worker.reason or f"is {worker.phase}")
        for worker_id, reason in decision.drain.items():
            ends[worker_id] = (_cause(workers[worker_id], wanted), reason)
        for eviction in proposal.evicted:
            ends.setdefault(eviction.worker_id, (Cause.EVICTED, eviction.sentence))
        room = make_room(
            self.snapshot, proposal.refused, proposal.evicted, changing=decision.rollouts
        ) | give_way(
            self.snapshot, proposal.refused, decision.rollouts, self._runtime_of, proposal.evicted
        )
        for worker_id, reason in room.go.items():
            ends.setdefault(worker_id, (_cause(workers[worker_id], wanted), reason))
        self.staying = room.stay
        for worker_id, (cause, sentence) in ends.items():
            if worker_id not in self._real:
                self.starts.pop(worker_id, None)  # begun and ended within this very plan
                continue
            self.stops.setdefault(
                worker_id,
                Stop(worker=workers[worker_id], turn=turn, cause=cause, sentence=sentence),
            )
        return set(ends)

    def _start(self, turn: int, proposal: Proposal) -> bool:
        for refusal in proposal.refused:
            for plan in refusal.gang:
                self._waits.setdefault(plan.slot, set()).update(refusal.waits_for)
        for gang in proposal.placed:
            for worker in gang.workers:
                slot = worker.plan.slot
                name = f"{slot[0]}/{slot[1]}/{slot[2]}/{slot[3]}@{turn}"
                self.starts[name] = Start(
                    worker=worker,
                    turn=turn,
                    asleep=gang.asleep,
                    replaces=self._before.get(slot, ""),
                    after=self._after(worker) if turn > 1 else (),
                )
        return bool(proposal.placed)

    def _after(self, worker: PlannedWorker) -> tuple[str, ...]:
        """Who has to end for this one: by the scheduler's word, else who held its devices."""
        awaited = self._waits.get(worker.plan.slot, set()) & self.stops.keys()
        if awaited:
            return tuple(sorted(awaited))
        devices = {claim.device_id for claim in worker.claims}
        return tuple(sorted(name for name in self.stops if self._held.get(name, set()) & devices))

    def _settle(self, ended: set[str]) -> None:
        """The snapshot of the next turn: these have ended, all others are ready, or sleep, and
        nobody waits any more.
        """
        snapshot = self.snapshot
        ready = [_rested(w, self._now) for w in snapshot.workers if w.id not in ended]
        known = {worker.id for worker in snapshot.workers}
        falling = {w.id for w in snapshot.workers if w.phase is Phase.FALLING_ASLEEP}
        claims = [
            msgspec.structs.replace(claim, memory_bytes=0) if claim.worker_id in falling else claim
            for claim in snapshot.claims
            if claim.worker_id not in ended
        ]
        for name, start in self.starts.items():
            if name not in known:
                ready.append(_started(name, start, self._now))
                claims += [
                    Claim(worker_id=name, device_id=c.device_id, memory_bytes=c.memory_bytes)
                    for c in start.worker.claims
                ]
        self.snapshot = msgspec.structs.replace(
            snapshot, workers=tuple(ready), claims=tuple(claims), ended=(), demand=()
        )


def _rested(worker: Worker, now: float) -> Worker:
    if worker.phase is Phase.FALLING_ASLEEP:
        return msgspec.structs.replace(worker, phase=Phase.ASLEEP)
    if worker.phase in _AT_REST:
        return worker
    return msgspec.structs.replace(worker, phase=Phase.READY, ready_at=now)


def _rolled(model: Model, snapshot: Snapshot, refused: Collection[Slot], now: float) -> Model:
    """The model after the next move of its rollout."""
    rollout = model.rollout
    assert rollout is not None, model.name
    policy = msgspec.structs.replace(rollout.policy, gate=None, pause_s=0.0, promote=Promote.AUTO)
    rollout = msgspec.structs.replace(rollout, policy=policy, step_at=now)
    wanted = targets(model, rollout, workers_of(model, snapshot), {}, now)
    move = decide(wanted, refused, ())
    match move.step:
        case Step.FINISH:
            return msgspec.structs.replace(model, rollout=None)
        case Step.ENTER:
            rollout = msgspec.structs.replace(rollout, step=rollout.step + 1, percent=move.percent)
        case Step.SHIFT:
            rollout = msgspec.structs.replace(rollout, percent=move.percent)
        case Step.WAIT | Step.FAIL:
            pass
    return msgspec.structs.replace(model, rollout=rollout)


def _cause(worker: Worker, wanted: Mapping[Slot, str]) -> Cause:
    if worker.plan.slot not in wanted:
        return Cause.REMOVED
    if worker.plan.fingerprint != wanted[worker.plan.slot]:
        return Cause.OUTDATED
    return Cause.DEPARTING


def _carried_out(snapshot: Snapshot, decision: Decision) -> Snapshot:
    """As the controller has it before it places anything."""

    def after(worker: Worker) -> Worker:
        if worker.id in decision.drain:
            return msgspec.structs.replace(worker, phase=Phase.DRAINING, departing=True)
        if worker.id in decision.depart:
            return msgspec.structs.replace(worker, departing=True)
        if worker.id in decision.keep:
            return msgspec.structs.replace(worker, departing=False)
        return worker

    return msgspec.structs.replace(snapshot, workers=tuple(map(after, snapshot.workers)))


def _held(snapshot: Snapshot) -> dict[str, set[str]]:
    held: dict[str, set[str]] = {}
    for claim in snapshot.claims:
        held.setdefault(claim.worker_id, set()).add(claim.device_id)
    return held


def _started(name: str, start: Start, now: float) -> Worker:
    return Worker(
        id=name,
        plan=start.worker.plan,
        node=start.worker.node,
        runtime=start.worker.runtime,
        phase=Phase.ASLEEP if start.asleep else Phase.READY,
        sleep_mode=SleepMode.STOPPED if start.asleep else SleepMode.AWAKE,
        reason="",
        url="",
        token="",
        created_at=now,
        ready_at=None if start.asleep else now,
        ended_at=None,
    )
