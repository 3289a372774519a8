"""Room for a gang of higher priority: the cheapest workers of lower priority that have to go."""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop
from typing import NamedTuple

from pipelines.scheduler.builds import Level
from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.gangs import KINDS, Job, Member, Seat, seat_one
from pipelines.scheduler.hosts import Host
from pipelines.scheduler.scorers import TIGHT, USUAL
from pipelines.scheduler.search import EVERYWHERE, Scope
from pipelines.scheduler.shapes import Shape
from pipelines.scheduler.victims import Unit, Victims
from registry.spec import Locality

HOSTS_MAX = 24  # that are looked at in detail for one worker, by the least their room may cost
SCOPES_MAX = 4  # single nodes or fabrics that are tried for one gang


class Room(NamedTuple):
    """The seats that a gang will have, and the units whose end makes them free."""

    seats: tuple[Seat, ...]
    units: tuple[Unit, ...]


def make_room(
    fleet: Fleet, job: Job, victims: Victims, leaving: Sequence[str], gone: Sequence[Unit]
) -> Room | None:
    """The cheapest room for the gang, beside that of those who are *leaving* (some of them *gone*
    by our own choice); None if there is none. No unit of it can be left out.
    """
    if fleet.quotas.refusal(job.owner, job.devices, job.memory_bytes):
        return None
    search = _Search(fleet, job, victims, gone)
    mark = fleet.mark()
    for worker_id in leaving:
        fleet.release(worker_id)
    best: tuple[float, Room] | None = None
    for scope in search.scopes():
        room = search.within(scope)
        if room is not None:
            cost = sum(unit.cost for unit in room.units)
            if best is None or cost < best[0]:
                best = (cost, room)
    fleet.undo(mark)
    return None if best is None else best[1]


class _Search:
    def __init__(self, fleet: Fleet, job: Job, victims: Victims, gone: Sequence[Unit]) -> None:
        self._fleet = fleet
        self._job = job
        self._victims = victims
        self._gone = gone

    def scopes(self) -> Iterator[Scope]:
        job, fleet = self._job, self._fleet
        if not job.is_pair:
            yield EVERYWHERE
            return
        living = job.living(fleet)
        kinds = {host.build.kind for host in living} or set(fleet.shapes.kinds())
        for kind in [kind for kind in KINDS if kind in kinds]:
            scope = Scope(kind=kind)
            if job.locality is Locality.PREFER:
                yield scope
            elif job.locality is Locality.NODE:
                hosts = living or self._cheapest_hosts(job.members, scope)
                for host in hosts[:SCOPES_MAX]:
                    yield Scope(kind=kind, host=host.number)
            else:
                hosts = living or self._cheapest_hosts(job.members[:1], scope)
                fabrics = dict.fromkeys(host.fabric for host in hosts if host.fabric)
                for fabric in list(fabrics)[:SCOPES_MAX]:
                    yield Scope(kind=kind, fabric=fabric)

    def within(self, scope: Scope) -> Room | None:
        """Seats the members one by one, evicting for those that find no place."""
        mark = self._fleet.mark()
        seats: list[Seat] = []
        chosen: list[Unit] = []
        for member in self._job.members:
            taken = seat_one(self._fleet, self._job, member, USUAL, scope)
            if taken is None:
                taken = self._evict_for(member, scope, chosen)
            if taken is None:
                self._fleet.undo(mark)
                return None
            seats.append(taken)
        self._spare(scope, seats, chosen)
        self._fleet.undo(mark)
        return Room(tuple(seats), tuple(chosen))

    def _evict_for(self, member: Member, scope: Scope, chosen: list[Unit]) -> Seat | None:
        found = self._cheapest(member.shape, scope, chosen)
        if found is None:
            return None
        host, units = found
        for unit in units:
            self._release(unit)
        chosen += units
        # Only its owner's bytes could still forbid it.
        return seat_one(self._fleet, self._job, member, USUAL, _only(scope, host))

    def _spare(self, scope: Scope, seats: list[Seat], chosen: list[Unit]) -> None:
        """Drops what need not go after all, the dearest first: a unit whose seats are not taken, or
        whose takers find other ones among what is free by now.
        """
        fleet = self._fleet
        for unit in sorted(chosen, key=lambda unit: (-unit.cost, unit.workers)):
            mark = fleet.mark()
            for worker_id in unit.workers:
                fleet.restore(worker_id)
            moved: dict[int, Seat] = {}
            owing = [
                n for n, one in enumerate(seats) if any(one.host.free[i] < 0 for i in one.positions)
            ]
            for n in owing:
                fleet.give(*seats[n])
            for n in owing:
                again = seat_one(fleet, self._job, Member(*seats[n][:2]), TIGHT, scope)
                if again is None:
                    break
                moved[n] = again
            if len(moved) < len(owing):
                fleet.undo(mark)
                continue
            chosen.remove(unit)
            for n, again in moved.items():
                seats[n] = again

    def _release(self, unit: Unit) -> None:
        for worker_id in unit.workers:
            self._fleet.release(worker_id)

    def _candidates(self, host: Host, chosen: Sequence[Unit]) -> list[Unit]:
        return [
            unit
            for unit in self._victims.on_host.get(host.number, ())
            if unit.priority < self._job.priority
            and unit not in self._gone
            and unit not in chosen
            and self._victims.allowed(unit, chosen, self._gone)
        ]

    def _cheapest(
        self, shape: Shape, scope: Scope, chosen: Sequence[Unit]
    ) -> tuple[Host, list[Unit]] | None:
        best: tuple[float, Host, list[Unit]] | None = None
        bounds = self._bounds([shape], scope)
        heapify(bounds)
        for _ in range(HOSTS_MAX):
            if not bounds or (best is not None and bounds[0][0] >= best[0]):
                break
            host = self._fleet.hosts[heappop(bounds)[1]]
            units = self._cheapest_on(host, shape, chosen)
            if units is not None:
                cost = sum(unit.cost for unit in units)
                if best is None or cost < best[0]:
                    best = (cost, host, units)
        return None if best is None else best[1:]

    def _cheapest_on(self, host: Host, shape: Shape, chosen: Sequence[Unit]) -> list[Unit] | None:
        """Releases from the cheapest on until there is room, then takes back what is not needed,
        from the dearest on.
        """
        free = list(host.free)
        taken: list[Unit] = []
        for unit in self._candidates(host, chosen):
            if not self._victims.allowed(unit, (*chosen, *taken), self._gone):
                continue
            taken.append(unit)
            self._shift(free, host, unit, 1)
            if shape.choose(host.build, tuple(free)) is not None:
                break
        else:
            return None
        for unit in sorted(taken, key=lambda unit: (-unit.cost, unit.workers)):
            self._shift(free, host, unit, -1)
            if shape.choose(host.build, tuple(free)) is not None:
                taken.remove(unit)
            else:
                self._shift(free, host, unit, 1)
        return taken

    def _shift(self, free: list[int], host: Host, unit: Unit, sign: int) -> None:
        for worker_id in unit.workers:
            for hold in self._fleet.holds[worker_id]:
                if hold.host is host:
                    for i, size in hold.bytes_by_position.items():
                        if not host.devices[i].quarantine:
                            free[i] += sign * size

    def _bounds(self, shapes: Sequence[Shape], scope: Scope) -> list[tuple[float, int]]:
        """For each host that could do the least that its room may cost."""
        bounds: list[tuple[float, int]] = []
        missing_of: dict[Level, int | None] = {}
        for number in self._victims.on_host:
            host = self._fleet.hosts[number]
            if not scope.holds(host):
                continue
            level = host.level
            if level not in missing_of:
                missing_of[level] = _missing(level, shapes)
            missing = missing_of[level]
            if missing is None:
                continue
            price = self._victims.price(number, self._job.priority)
            if price is not None:
                bounds.append((missing * price, number))
        return bounds

    def _cheapest_hosts(self, members: Sequence[Member], scope: Scope) -> list[Host]:
        bounds = self._bounds([member.shape for member in members], scope)
        return [self._fleet.hosts[number] for _, number in sorted(bounds)]


def _missing(level: Level, shapes: Sequence[Shape]) -> int | None:
    """How many devices would have to be freed at least; None where no eviction helps."""
    wanted = have = 0
    for shape in shapes:
        fitting = shape.fitting(level)
        if fitting is None:
            return None
        wanted += shape.devices
        have = max(have, fitting)
    if len(shapes) > 1 and any(shape.memory_bytes for shape in shapes):
        return 1  # shares may be on one device
    return max(wanted - have, 1)


def _only(scope: Scope, host: Host) -> Scope:
    return Scope(kind=scope.kind, fabric=scope.fabric, host=host.number)
