"""Gangs → places, against one snapshot: the line from what is wanted to what is proposed.

Each gang in turn, those of higher priority first, then the hardest: it takes its seats; else others
of this proposal move closer together; else it waits for places that are coming; else workers of
lower priority have to go. In the end those without a place are tried once more (`repair.py`).
"""

from collections import deque
from collections.abc import Iterable

from pipelines.scheduler.coming import Promise, reserve, take
from pipelines.scheduler.explanation import refusal
from pipelines.scheduler.filters import RuntimeOf
from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.gangs import Job, as_planned, seat
from pipelines.scheduler.preemption import make_room
from pipelines.scheduler.proposal import Eviction, Proposal, Refusal
from pipelines.scheduler.rearrange import Placed, Rearranging
from pipelines.scheduler.repair import Repair
from pipelines.scheduler.scorers import TIGHT, USUAL
from pipelines.scheduler.victims import Unit
from pipelines.topology import Gang
from registry.state import Snapshot


def place(
    snapshot: Snapshot,
    gangs: Iterable[Gang],
    runtime_of: RuntimeOf,
    fleet: Fleet | None = None,
    *,
    held: Iterable[Gang] = (),
    promised: Iterable[Promise] = (),
) -> Proposal:
    """Proposes places for *gangs*. *runtime_of* names the runtime a plan gets on a kind of device.
    A *fleet* of this very snapshot may be kept between calls; it is left as it was.

    *held* are gangs whose time has not come: where they have room, nobody of their priority or a
    lower one gets it. They are neither placed nor refused, and nobody goes for them. *promised* is
    room that was made for others.
    """
    gangs, held = tuple(gangs), tuple(held)
    if not gangs:
        return Proposal(placed=(), refused=())
    everyone = (*gangs, *held)
    if fleet is None or not fleet.knows_labels(plan for gang in everyone for plan in gang):
        fleet = Fleet(snapshot, label_keys=_labels(everyone))
    mark = fleet.mark()
    jobs = [Job(fleet, gang, runtime_of) for gang in everyone]
    early = frozenset(jobs[len(gangs) :])
    line = _Line(fleet, early, promised)
    line.run(sorted(jobs, key=lambda job: (-job.priority, job not in early, job.rank)))
    line.improve()
    refused = (*line.refused, *(refusal(fleet, job) for job in line.without))
    fleet.undo(mark)
    return Proposal(
        placed=tuple(as_planned(seats) for seats in line.placed.values()),
        refused=refused,
        evicted=tuple(line.evicted),
    )


class _Line:
    """What one call has come to so far. *early* are jobs that only hold a place."""

    def __init__(self, fleet: Fleet, early: frozenset[Job], promised: Iterable[Promise]) -> None:
        self._fleet = fleet
        self._early = early
        self._promised = deque(sorted(promised, key=lambda one: -one.priority))
        self._rearranging = Rearranging(fleet)
        self._leaving = list(fleet.leaving)
        self._gone: list[Unit] = []
        self._settled: set[Job] = set()  # that lost their place once: no second time round
        self.placed: Placed = {}
        self.without: list[Job] = []  # a place, now or coming
        self.refused: list[Refusal] = []  # that wait for theirs
        self.evicted: list[Eviction] = []

    def run(self, jobs: Iterable[Job]) -> None:
        line = deque(jobs)
        while line:
            job = line.popleft()
            while self._promised and self._promised[0].priority >= job.priority:
                self._fleet.keep(self._promised.popleft().bytes_by_device)
            seats = seat(self._fleet, job, USUAL) or seat(self._fleet, job, TIGHT)
            if seats is not None:
                if job not in self._early:  # what it holds nobody moves
                    self.placed[job] = seats
                continue
            if job in self._early:
                continue
            if job not in self._settled and all(shape.offers for _, shape in job.members):
                lost = self._rearranging.make_room(job, self.placed)
                if lost is not None:
                    self._settled.update(lost)
                    line.extendleft(reversed(lost))
                    continue
            self._wait_or_refuse(job)

    def improve(self) -> None:
        """Seats some of those without a place, too, where others can move closer together."""
        mark = self._fleet.mark()
        repair = Repair(self._fleet, dict(self.placed), self.without)
        if not repair.run():  # only other ones of like worth: the first come stay
            self._fleet.undo(mark)
            return
        self.placed = repair.placed
        everyone = dict.fromkeys((*self.without, *repair.waiting))
        self.without = [job for job in everyone if job not in self.placed]

    def _wait_or_refuse(self, job: Job) -> None:
        """Waits for what leaves, and only where that is not enough makes others leave."""
        if not all(shape.offers for _, shape in job.members):
            self.without.append(job)
            return
        fleet = self._fleet
        coming = reserve(fleet, job, self._leaving) if self._leaving else None
        if coming is not None:
            seats, waits_for = coming
            if waits_for:
                self.refused.append(_waiting(job, waits_for))
            else:
                self.placed[job] = seats
            return
        room = make_room(fleet, job, fleet.victims, self._leaving, self._gone)
        if room is None:
            self.without.append(job)
            return
        evicted = [
            Eviction(worker_id=worker_id, model=unit.model, plan=job.members[0].plan)
            for unit in room.units
            for worker_id in unit.workers
        ]
        self._gone += room.units
        self._leaving += [one.worker_id for one in evicted]
        self.evicted += evicted
        waits_for = take(fleet, job, room.seats, self._leaving)
        names = dict.fromkeys((*(one.worker_id for one in evicted), *waits_for))
        self.refused.append(_waiting(job, tuple(names)))


def _waiting(job: Job, waits_for: tuple[str, ...]) -> Refusal:
    return Refusal(gang=job.gang, plan=job.members[0].plan, why=(), waits_for=waits_for)


def _labels(gangs: Iterable[Gang]) -> frozenset[str]:
    return frozenset(key for gang in gangs for plan in gang for key in plan.placement.labels)
