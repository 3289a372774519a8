"""Which workers could move so that large holes grow: a proposal, nothing moves by it.

A move is made before it is broken: the worker's successor is ready before it goes. So a place to
move to is one that is free now, and no move waits for another one.
"""

from collections.abc import Iterable, Sequence

import msgspec

from pipelines.scheduler.filters import RuntimeOf
from pipelines.scheduler.fleet import Fleet, planned
from pipelines.scheduler.gangs import Job, seat, seat_one
from pipelines.scheduler.hosts import Host
from pipelines.scheduler.scorers import TIGHT
from pipelines.scheduler.search import EVERYWHERE
from pipelines.topology import Gang
from registry.spec import Role
from registry.state import LEAVING_PHASES, Phase, PlannedWorker, Snapshot, Worker

MOVES_MAX = 16
HOSTS_MAX = 200  # that are looked at, the emptiest first


class Move(msgspec.Struct, frozen=True):
    """*worker_id* from *node* to where *to* says."""

    worker_id: str
    node: str
    to: PlannedWorker


class Defragmentation(msgspec.Struct, frozen=True):
    """*gains*: what is larger afterwards, a sentence for each node that is emptied, or for the gang
    that finds a place.
    """

    moves: tuple[Move, ...]
    gains: tuple[str, ...]


NOTHING = Defragmentation(moves=(), gains=())


def defragment(
    snapshot: Snapshot,
    runtime_of: RuntimeOf,
    *,
    wanted: Gang | None = None,
    moves_max: int = MOVES_MAX,
    fleet: Fleet | None = None,
) -> Defragmentation:
    """Moves that empty nodes; with *wanted*, a gang that finds no place now, those that make one
    for it, or none where no such moves are found. Only unified workers that serve move: a gang
    stays together where it is.
    """
    if fleet is None:
        plans = wanted or ()
        keys = frozenset(key for plan in plans for key in plan.placement.labels)
        fleet = Fleet(snapshot, label_keys=keys)
    mark = fleet.mark()
    search = _Search(fleet, runtime_of)
    if wanted is None:
        found = search.empty_nodes(moves_max)
    else:
        found = search.room_for(Job(fleet, wanted, runtime_of), moves_max)
    fleet.undo(mark)
    return found


class _Search:
    def __init__(self, fleet: Fleet, runtime_of: RuntimeOf) -> None:
        self._fleet = fleet
        self._runtime_of = runtime_of
        self._mark = fleet.mark()
        self._hidden: dict[int, dict[int, int]] = {}
        self._targeted: set[int] = set()
        self._on_host: dict[int, list[Worker]] = {}
        self._fixed: set[int] = set()  # hosts with a worker that does not move
        for worker in sorted(fleet.workers.values(), key=lambda worker: worker.id):
            for hold in fleet.holds[worker.id]:
                number = hold.host.number
                if _moves(worker):
                    self._on_host.setdefault(number, []).append(worker)
                elif worker.phase not in LEAVING_PHASES:
                    self._fixed.add(number)

    def empty_nodes(self, moves_max: int) -> Defragmentation:
        moves: list[Move] = []
        gains: list[str] = []
        self._hide_empty()
        for host in self._emptiest():
            workers = self._on_host[host.number]
            if host.number in self._hidden or len(moves) + len(workers) > moves_max:
                continue
            done = self._move(host, workers)
            if done is not None:
                moves += done
                count = len(host.devices)
                gains.append(f"{host.node.name} becomes empty: {count} devices in one piece")
                self._targets(done)
        return Defragmentation(moves=tuple(moves), gains=tuple(gains))

    def room_for(self, job: Job, moves_max: int) -> Defragmentation:
        """Moves workers off one node after the other, the emptiest first, until the gang fits."""
        moves: list[Move] = []
        self._hide_empty()
        for host in self._emptiest(whole=False):
            if all(shape.fitting(host.level) is None for _, shape in job.members):
                continue
            for worker in self._on_host[host.number]:
                if len(moves) == moves_max or host.number in self._targeted:
                    break
                done = self._move(host, [worker])
                if done is not None:
                    moves += done
                    self._targets(done)
                    if self._fits(job):
                        return self._only_needed(job, moves)
        return NOTHING

    def _only_needed(self, job: Job, moves: list[Move]) -> Defragmentation:
        """Leaves out every move without which the gang finds its place all the same."""
        for move in list(moves):
            fewer = [one for one in moves if one is not move]
            self._fleet.undo(self._mark)
            self._hidden.clear()
            for one in fewer:
                self._apply(one)
            if self._fits(job):
                moves = fewer
        plan = job.gang[0]
        gain = f"{plan.model}/{plan.variant} finds a place"
        return Defragmentation(moves=tuple(moves), gains=(gain,))

    def _fits(self, job: Job) -> bool:
        fleet = self._fleet
        mark = fleet.mark()
        for number, hidden in self._hidden.items():
            fleet.show(fleet.hosts[number], hidden)
        seats = seat(fleet, job, TIGHT)
        fleet.undo(mark)
        return seats is not None

    def _hide(self, host: Host) -> None:
        hidden = self._fleet.hide(host)
        before = self._hidden.setdefault(host.number, {})
        for i, size in hidden.items():
            before[i] = before.get(i, 0) + size

    def _hide_empty(self) -> None:
        """What is whole already must not be broken."""
        for host in self._fleet.hosts:
            if host.free == host.build.sizes:
                self._hide(host)

    def _targets(self, moves: Iterable[Move]) -> None:
        for move in moves:
            host = self._fleet.host(move.to.node)
            assert host is not None
            self._targeted.add(host.number)

    def _move(self, host: Host, workers: Sequence[Worker]) -> list[Move] | None:
        """Seats a successor of each elsewhere, while all of them are still where they are. From
        then on nobody moves to the host: its holes are not there before these moves are done.
        """
        fleet = self._fleet
        if host.number in self._targeted:
            return None
        mark, hidden = fleet.mark(), {n: dict(one) for n, one in self._hidden.items()}
        self._hide(host)
        moves = []
        for worker in workers:
            job = Job(fleet, (worker.plan,), self._runtime_of)
            taken = seat_one(fleet, job, job.members[0], TIGHT, EVERYWHERE)
            if taken is None:
                fleet.undo(mark)
                self._hidden = hidden
                return None
            moves.append(Move(worker_id=worker.id, node=host.node.name, to=planned(*taken)))
        for worker in workers:
            fleet.release(worker.id)
        self._hide(host)
        return moves

    def _apply(self, move: Move) -> None:
        fleet, to = self._fleet, move.to
        shape = fleet.shapes.of(to.plan, self._runtime_of)
        host = fleet.host(to.node)
        assert host is not None
        names = {claim.device_id for claim in to.claims}
        positions = [i for i, device in enumerate(host.devices) if device.id in names]
        fleet.release(move.worker_id)
        fleet.take(to.plan, shape, host, positions)

    def _emptiest(self, *, whole: bool = True) -> list[Host]:
        """Hosts that moves could empty (not *whole*: at least in part), those with the least on
        them first.
        """
        hosts = []
        for number in self._on_host:
            host = self._fleet.hosts[number]
            if host.build.is_ready and not (whole and number in self._fixed):
                total = sum(host.build.sizes)
                hosts.append((1 - sum(host.free) / total, number))
        return [self._fleet.hosts[number] for _, number in sorted(hosts)[:HOSTS_MAX]]


def _moves(worker: Worker) -> bool:
    plan = worker.plan
    return (
        plan.role is Role.UNIFIED
        and plan.external is None
        and worker.phase is Phase.READY
        and not worker.departing
    )
