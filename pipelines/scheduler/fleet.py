"""The fleet as the scheduler sees it: hosts with the memory free on each device, and who is where.

Everything that is taken or given back is noted and can be undone, so that trying costs no copy.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from pipelines.scheduler.builds import Build, Free, Group, build_key, in_order
from pipelines.scheduler.hosts import Hold, Host, foreign_use
from pipelines.scheduler.quotas import Quotas
from pipelines.scheduler.shapes import Shape, Shapes
from pipelines.scheduler.standing import Standings
from pipelines.scheduler.victims import Victims
from registry.spec import Role
from registry.state import (
    LEAVING_PHASES,
    MAKES_ROOM_PHASES,
    Device,
    DeviceClaim,
    PlannedWorker,
    Snapshot,
    Worker,
    WorkerPlan,
)

RoleKey = tuple[str, str, Role, str]  # model, variant, role, fingerprint


class _Change(NamedTuple):
    host: Host
    free: Free  # before
    role: RoleKey | None
    sign: int
    owner: str
    devices: int
    memory_bytes: int


class Fleet:
    """A working copy of one snapshot's capacity. What is taken here is proposed, not claimed."""

    def __init__(self, snapshot: Snapshot, *, label_keys: frozenset[str] = frozenset()) -> None:
        self.standings = Standings(snapshot.models)
        self.quotas = Quotas(snapshot.quotas)
        self.workers = {worker.id: worker for worker in snapshot.workers}
        self.holds: dict[str, list[Hold]] = {}
        self.roles: dict[RoleKey, dict[int, int]] = defaultdict(dict)  # → workers by host
        self.on_source: dict[str, list[int]] = defaultdict(list)
        self._changes: list[_Change] = []
        self._label_keys = label_keys.union(_label_keys(snapshot))
        self._by_name: dict[str, Host] = {}
        self._places: dict[str, tuple[Host, int]] = {}  # of devices
        self.hosts = self._make_hosts(snapshot)
        self.shapes = Shapes(self.builds)
        self._count_workers(snapshot)
        self.leaving = tuple(
            sorted(
                worker.id
                for worker in snapshot.workers
                if worker.phase in MAKES_ROOM_PHASES and self.holds[worker.id]
            )
        )

    def _make_hosts(self, snapshot: Snapshot) -> tuple[Host, ...]:
        claimed: dict[str, int] = defaultdict(int)
        for claim in snapshot.claims:
            claimed[claim.device_id] += claim.memory_bytes
        devices_of: dict[str, list[Device]] = defaultdict(list)
        for device in snapshot.devices:
            devices_of[device.node].append(device)
        builds: dict[object, Build] = {}
        hosts = []
        for number, node in enumerate(sorted(snapshot.nodes, key=lambda node: node.name)):
            devices = in_order(devices_of[node.name])
            labels = {key: node.labels[key] for key in self._label_keys if key in node.labels}
            key = build_key(node, devices, labels)
            build = builds.get(key)
            if build is None:
                build = builds[key] = Build(node, devices, labels)
            foreign = foreign_use(devices, claimed)
            free = tuple(
                [
                    0 if d.quarantine else d.memory_bytes - claimed[d.id] - foreign.get(i, 0)
                    for i, d in enumerate(devices)
                ]
            )
            host = Host(number, node, devices, build, free)
            host.foreign = foreign
            self._enter(host)
            self._by_name[node.name] = host
            for source in node.sources:
                self.on_source[source].append(number)
            hosts.append(host)
            for position, device in enumerate(devices):
                self._places[device.id] = (host, position)
        self.builds = tuple(builds.values())
        return tuple(hosts)

    def _count_workers(self, snapshot: Snapshot) -> None:
        held: dict[str, dict[Host, dict[int, int]]] = defaultdict(dict)
        for claim in snapshot.claims:
            place = self._places.get(claim.device_id)
            if place is not None and claim.memory_bytes:  # 0 of one that sleeps
                held[claim.worker_id].setdefault(place[0], {})[place[1]] = claim.memory_bytes
        for worker in snapshot.workers:
            mine = held.get(worker.id, {})
            self.holds[worker.id] = [Hold(host, taken) for host, taken in mine.items()]
            for taken in mine.values():
                self.quotas.count(self.owner(worker), len(taken), sum(taken.values()))
            host = self._by_name.get(worker.node)
            if host is not None and not worker.departing and worker.phase not in LEAVING_PHASES:
                by_host = self.roles[role_key(worker.plan)]
                by_host[host.number] = by_host.get(host.number, 0) + 1

    @cached_property
    def victims(self) -> Victims:
        """Who could be evicted, as it is in the snapshot."""
        return Victims(self.workers.values(), self.holds, self.standings)

    def owner(self, worker: Worker) -> str:
        return self.standings.of(worker).owner

    def host(self, name: str) -> Host | None:
        return self._by_name.get(name)

    def knows_labels(self, plans: Iterable[WorkerPlan]) -> bool:
        """Whether its builds tell apart all that these plans wish."""
        return all(self._label_keys.issuperset(plan.placement.labels) for plan in plans)

    # Taking, giving back, undoing.

    def mark(self) -> int:
        return len(self._changes)

    def undo(self, mark: int) -> None:
        """Everything since *mark* has not happened."""
        while len(self._changes) > mark:
            change = self._changes.pop()
            self._move(change.host, change.free)
            if change.role is not None:
                self._count_role(change.role, change.host.number, -change.sign)
            self.quotas.count(change.owner, -change.devices, -change.memory_bytes)

    def take(self, plan: WorkerPlan, shape: Shape, host: Host, positions: Sequence[int]) -> None:
        """A worker takes its place."""
        self._seat(plan, shape, host, positions, 1)

    def give(self, plan: WorkerPlan, shape: Shape, host: Host, positions: Sequence[int]) -> None:
        """It gives it back: another one may suit it better."""
        self._seat(plan, shape, host, positions, -1)

    def release(self, worker_id: str) -> None:
        """As if the worker had ended."""
        self._shift(worker_id, -1)

    def restore(self, worker_id: str) -> None:
        """It has not: what was taken of its memory since then is owed, as a negative rest."""
        self._shift(worker_id, 1)

    def keep(self, bytes_by_device: Mapping[str, int]) -> None:
        """Nobody gets it, whether it is free yet or not."""
        for device_id, size in bytes_by_device.items():
            if device_id in self._places:
                host, position = self._places[device_id]
                self._change(host, {position: size}, "", None, 1)

    def hide(self, host: Host) -> dict[int, int]:
        """The host offers nothing until it is shown again with what this returns."""
        hidden = {i: size for i, size in enumerate(host.free) if size > 0}
        self._change(host, hidden, "", None, 1)
        return hidden

    def show(self, host: Host, hidden: dict[int, int]) -> None:
        self._change(host, {i: -size for i, size in hidden.items()}, "", None, -1)

    def _seat(
        self, plan: WorkerPlan, shape: Shape, host: Host, positions: Sequence[int], sign: int
    ) -> None:
        sizes = host.build.sizes
        taken = {i: sign * (shape.memory_bytes or sizes[i]) for i in positions}
        role = role_key(plan)
        self._count_role(role, host.number, sign)
        self._change(host, taken, plan.owner, role, sign)

    def _shift(self, worker_id: str, sign: int) -> None:
        owner = self.owner(self.workers[worker_id])
        for host, held in self.holds[worker_id]:
            self._change(host, {i: sign * size for i, size in held.items()}, owner, None, sign)

    def _change(
        self, host: Host, taken: dict[int, int], owner: str, role: RoleKey | None, sign: int
    ) -> None:
        free = list(host.free)
        for i, size in taken.items():
            if not host.devices[i].quarantine:
                free[i] -= size
        devices, memory_bytes = sign * len(taken), sum(taken.values())
        self._changes.append(_Change(host, host.free, role, sign, owner, devices, memory_bytes))
        self.quotas.count(owner, devices, memory_bytes)
        self._move(host, tuple(free))

    def _move(self, host: Host, free: Free) -> None:
        level = host.level
        group = level.groups[host.neighbourhood]
        group.members.discard(host.number)
        if not group.members:
            del level.groups[host.neighbourhood]
            if not level.groups:
                del host.build.levels[level]
        host.free = free
        host.level = host.build.level(free)
        self._enter(host)

    def _enter(self, host: Host) -> None:
        level = host.level
        group = level.groups.get(host.neighbourhood)
        if group is None:
            group = level.groups[host.neighbourhood] = Group()
            host.build.levels[level] = None
        group.add(host.number)

    def _count_role(self, role: RoleKey, number: int, change: int) -> None:
        by_host = self.roles[role]
        by_host[number] = by_host.get(number, 0) + change
        if not by_host[number]:
            del by_host[number]


def planned(plan: WorkerPlan, shape: Shape, host: Host, positions: Sequence[int]) -> PlannedWorker:
    """The worker with its place, its claims by the devices' own order."""
    claims = [
        (host.devices[i].index, host.devices[i].id, shape.memory_bytes or host.build.sizes[i])
        for i in positions
    ]
    return PlannedWorker(
        plan=plan,
        node=host.node.name,
        runtime=shape.wish.runtimes[host.build.kind],
        claims=tuple(
            DeviceClaim(device_id=name, memory_bytes=size) for _, name, size in sorted(claims)
        ),
    )


def role_key(plan: WorkerPlan) -> RoleKey:
    return (plan.model, plan.variant, plan.role, plan.fingerprint)


def _label_keys(snapshot: Snapshot) -> Iterable[str]:
    for model in snapshot.models:
        for variant in model.spec.variants:
            yield from variant.placement.labels
            for _, role in variant.topology.roles():
                yield from role.placement.labels
