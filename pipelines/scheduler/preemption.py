"""Room for a gang of higher priority: the cheapest workers of lower priority that have to go."""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop

from pipelines.scheduler.builds import Level
from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.gangs import KINDS, Job, Member, seat, seat_one
from pipelines.scheduler.hosts import Host
from pipelines.scheduler.scorers import TIGHT, USUAL
from pipelines.scheduler.search import EVERYWHERE, Scope
from pipelines.scheduler.shapes import Shape
from pipelines.scheduler.victims import Unit, Victims
from registry.spec import Locality

HOSTS_MAX = 48  # that are looked at in detail for one worker, by the least their room may cost
SCOPES_MAX = 8  # single nodes or fabrics that are tried for one gang


def make_room(
    fleet: Fleet, job: Job, victims: Victims, leaving: Sequence[str], gone: Sequence[Unit]
) -> tuple[Unit, ...]:
    """The units whose end gives the gang a place, beside those that are *leaving* (of which some
    are *gone* by our own choice); none if there is no such set. No unit of it can be left out.
    """
    if fleet.quotas.refusal(job.owner, job.devices, job.memory_bytes):
        return ()
    search = _Search(fleet, job, victims, gone)
    mark = fleet.mark()
    for worker_id in leaving:
        fleet.release(worker_id)
    best: tuple[float, tuple[Unit, ...]] | None = None
    for scope in search.scopes():
        units = search.within(scope)
        if units is not None:
            cost = sum(unit.cost for unit in units)
            if best is None or cost < best[0]:
                best = (cost, units)
    needed = search.needed(best[1]) if best is not None else ()
    fleet.undo(mark)
    return needed


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

    def within(self, scope: Scope) -> tuple[Unit, ...] | None:
        """Seats the members one by one, evicting for those that find no place."""
        fleet, job = self._fleet, self._job
        mark = fleet.mark()
        chosen: list[Unit] = []
        for member in job.members:
            if seat_one(fleet, job, member, USUAL, scope) is not None:
                continue
            found = self._cheapest(member.shape, scope, chosen)
            if found is None:
                fleet.undo(mark)
                return None
            host, units = found
            for unit in units:
                self._release(unit)
            chosen += units
            if seat_one(fleet, job, member, USUAL, _only(scope, host)) is None:
                fleet.undo(mark)  # its owner's bytes do not go that far
                return None
        fleet.undo(mark)
        return tuple(chosen)

    def needed(self, units: tuple[Unit, ...]) -> tuple[Unit, ...]:
        """What of *units* cannot be left out, the dearest tried first."""
        if not self._suffice(units):  # seats found one by one need not be found again as a gang
            return ()
        for unit in sorted(units, key=lambda unit: (-unit.cost, unit.workers)):
            fewer = tuple(one for one in units if one is not unit)
            if self._suffice(fewer):
                units = fewer
        return units

    def _suffice(self, units: Sequence[Unit]) -> bool:
        fleet = self._fleet
        mark = fleet.mark()
        for unit in units:
            self._release(unit)
        seats = seat(fleet, self._job, USUAL) or seat(fleet, self._job, TIGHT)
        fleet.undo(mark)
        return seats is not None

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
        for number, units in self._victims.on_host.items():
            host = self._fleet.hosts[number]
            if not scope.holds(host):
                continue
            level = host.level
            if level not in missing_of:
                missing_of[level] = _missing(level, shapes)
            missing = missing_of[level]
            if missing is None:
                continue
            prices = [
                unit.cost / unit.devices[number]
                for unit in units
                if unit.priority < self._job.priority
            ]
            if prices:
                bounds.append((missing * min(prices), number))
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
