"""Drives a model through a change with the pure parts alone: the controller's turns, thought."""

import msgspec
from fleets import a_device, a_node, a_snapshot, a_worker, runtime_of, workers_of

from pipelines.departures import make_room
from pipelines.plan import with_specs
from pipelines.reconciler import ended_by_slot, reconcile
from pipelines.reconciler import workers_of as mine_of
from pipelines.rollouts import Step, decide, give_way, targets
from pipelines.scheduler import place
from registry.state import LEAVING_PHASES, Claim, Phase, RolloutState

TURN_S = 1.0


def capacity(model, *, slots, nodes=("a",)):
    """A fleet in which *model* serves as its spec says, on *slots* devices a node."""
    devices = [a_device(node, index) for node in nodes for index in range(slots)]
    workers, claims = [], []
    for worker, device in zip(workers_of(model), devices, strict=False):
        workers.append(msgspec.structs.replace(worker, node=device.node))
        claims.append(
            Claim(worker_id=worker.id, device_id=device.id, memory_bytes=device.memory_bytes)
        )
    assert len(workers) == len(workers_of(model)), "it does not fit"
    return a_snapshot(
        models=[model],
        nodes=[a_node(name) for name in nodes],
        devices=devices,
        workers=workers,
        claims=claims,
    )


class Course:
    """*snapshot* from turn to turn. New workers are ready *ready_after* turns after they were
    placed, those that *never* names (by a predicate) not at all; who is drained has ended
    *gone_after* turns later.
    """

    def __init__(
        self,
        snapshot,
        spec,
        *,
        ready_after=1,
        gone_after=1,
        never=lambda worker: False,
        traffic=(),
    ):
        self.snapshot, _ = with_specs(snapshot, [spec], 0.0)
        self.now = 0.0
        self.moves = []
        self.traffic = traffic
        self._ready_after = ready_after
        self._gone_after = gone_after
        self._drained = {}
        self._never = never
        self._count = 0
        self._refused = set()

    @property
    def model(self):
        (model,) = self.snapshot.models
        return model

    @property
    def rollout(self):
        return self.model.rollout

    def change(self, **changes):
        (model,) = self.snapshot.models
        after = msgspec.structs.replace(model, **changes)
        self.snapshot = msgspec.structs.replace(self.snapshot, models=(after,))

    def change_rollout(self, **changes):
        self.change(rollout=msgspec.structs.replace(self.rollout, **changes))

    def phase(self, worker, phase, **changes):
        after = msgspec.structs.replace(worker, phase=phase, **changes)
        workers = tuple(after if w.id == worker.id else w for w in self.snapshot.workers)
        self.snapshot = msgspec.structs.replace(self.snapshot, workers=workers)

    def end(self, worker, phase=Phase.STOPPED):
        gone = msgspec.structs.replace(worker, phase=phase, ended_at=self.now)
        self.snapshot = msgspec.structs.replace(
            self.snapshot,
            workers=tuple(w for w in self.snapshot.workers if w.id != worker.id),
            claims=tuple(c for c in self.snapshot.claims if c.worker_id != worker.id),
            ended=(*self.snapshot.ended, gone),
        )

    def never_again(self):
        """From now on no worker gets ready."""
        self._never = lambda worker: True

    def turn(self):
        """What the controller does in one turn; then time passes, and workers get on."""
        decision = reconcile(self.snapshot, self.now)
        self._drain(decision.drain)
        for name in decision.depart:
            self.phase(self.worker(name), self.worker(name).phase, departing=True)
        proposal = place(self.snapshot, decision.start, runtime_of, held=decision.held)
        for gang in proposal.placed:
            for planned in gang.workers:
                self._commit(planned)
        refused = proposal.refused
        room = make_room(self.snapshot, refused, changing=decision.rollouts) | give_way(
            self.snapshot, refused, decision.rollouts, runtime_of
        )
        self._drain(room.go)
        self.stay = room.stay
        self._refused = {p.slot for r in refused if not r.waits_for for p in r.gang}
        self._roll()
        self._pass()

    def turns(self, count):
        for _ in range(count):
            self.turn()

    def run(self, *, turns_max=200, look=lambda course: None):
        """Until the rollout is over; *look* after every turn."""
        for _ in range(turns_max):
            if self.rollout is None:
                return
            self.turn()
            look(self)
        raise AssertionError(f"not over after {turns_max} turns: {self.rollout}")

    def worker(self, name):
        return next(worker for worker in self.snapshot.workers if worker.id == name)

    def of(self, revision, *phases, role=None):
        return [
            worker
            for worker in self.snapshot.workers
            if worker.plan.revision == revision
            and worker.phase in (phases or tuple(Phase))
            and role in (None, worker.plan.role)
        ]

    def ready(self, role=None):
        return sum(
            worker.phase is Phase.READY and role in (None, worker.plan.role)
            for worker in self.snapshot.workers
        )

    def _commit(self, planned):
        self._count += 1
        worker = a_worker(
            planned.plan,
            Phase.STARTING,
            id=f"new-{self._count}",
            node=planned.node,
            created_at=self.now,
        )
        for other in self.snapshot.workers:
            same = (other.plan.slot, other.plan.fingerprint) == (
                planned.plan.slot,
                planned.plan.fingerprint,
            )
            assert other.departing or not same, f"{other.id} fills this slot"
        claims = tuple(
            Claim(worker_id=worker.id, device_id=c.device_id, memory_bytes=c.memory_bytes)
            for c in planned.claims
        )
        self.snapshot = msgspec.structs.replace(
            self.snapshot,
            workers=(*self.snapshot.workers, worker),
            claims=(*self.snapshot.claims, *claims),
        )

    def _drain(self, reasons):
        for name, reason in reasons.items():
            self.phase(self.worker(name), Phase.DRAINING, departing=True, reason=reason)

    def _roll(self):
        model, rollout = self.model, self.rollout
        if rollout is None:
            return
        mine = mine_of(model, self.snapshot)
        wanted = targets(model, rollout, mine, ended_by_slot(self.snapshot), self.now)
        move = decide(wanted, self._refused, self.traffic)
        if move.step is not Step.WAIT:
            self.moves.append((move.step, move.percent))
        match move.step:
            case Step.ENTER:
                step = rollout.step + 1
                self.change_rollout(step=step, percent=move.percent, step_at=self.now)
            case Step.SHIFT:
                self.change_rollout(percent=move.percent, step_at=self.now)
            case Step.FINISH:
                self.change(rollout=None)
            case Step.FAIL if rollout.policy.rollback:
                self.change(rollout=None, spec=rollout.base, revision=model.revision + 1)
            case Step.FAIL:
                self.change_rollout(state=RolloutState.STALLED, reason=move.reason)
            case Step.WAIT:
                self.change_rollout(reason=move.reason)

    def _pass(self):
        self.now += TURN_S
        for worker in self.snapshot.workers:
            if worker.phase in LEAVING_PHASES:
                since = self._drained.setdefault(worker.id, self.now - TURN_S)
                if self.now - since >= self._gone_after * TURN_S:
                    self.end(worker)
            elif self._is_up(worker):
                self.phase(worker, Phase.READY, ready_at=self.now)

    def _is_up(self, worker):
        age_s = self.now - worker.created_at
        starting = worker.phase is Phase.STARTING and not self._never(worker)
        return starting and age_s >= self._ready_after * TURN_S
