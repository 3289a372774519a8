"""Better use of the room there is, where not all found a place: ruin a little, build it anew.

Gangs placed one after the other leave holes that fit nobody. So the places that this very proposal
gave on a few hosts are taken back, and those who had them and those who found none are seated
again, in another order. What is worth less than before is undone.
"""

from collections import deque
from collections.abc import Container, Iterable, Sequence
from random import Random

from pipelines.scheduler.builds import Level
from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.gangs import Job, Seat, seat
from pipelines.scheduler.rearrange import Placed
from pipelines.scheduler.scorers import TIGHT
from pipelines.scheduler.shapes import Shape
from registry.spec import Locality

# Rounds in one call: each seats some dozen gangs. In large fleets a round costs more and the last
# gang is a smaller part of the whole.
ROUNDS_MAX = 300
ROUNDS_BY_HOSTS = 10_000
ROUNDS_BY_PLACED = 10
HOSTS_MAX = 4  # emptied in a round, beside one for each worker that is wanted
LOOKS_MAX = 64  # hosts whose cost is looked at for one gang
CHAINS_MAX = 6  # times in a round that one lifted for another lifts some itself
NOISES = (0.0, 0.1, 0.3, 1.0)  # by how much of its size a gang may seem smaller or larger
EVEN = 0.5  # of the rounds go one way, the others the other

Moved = dict[Job, None]


class Repair:
    """One call's. *placed* is improved where it stands; *waiting* are those without a place."""

    def __init__(self, fleet: Fleet, placed: Placed, waiting: Iterable[Job]) -> None:
        self._fleet = fleet
        self.placed = placed
        self.waiting = [job for job in waiting if all(shape.offers for _, shape in job.members)]
        self._chance = Random(0)  # noqa: S311 - the same each time, so that proposals are
        self._worth = {job: job.priority * _size(job) for job in (*placed, *self.waiting)}
        self._on_host: dict[int, dict[Job, None]] = {}
        for job in placed:
            self._enter(job)
        self._able: dict[object, list[int]] = {}

    def run(self) -> bool:
        """Whether more is placed than before; else, at most, others are."""
        before = self._sum()
        rounds = min(
            ROUNDS_MAX,
            ROUNDS_BY_HOSTS // max(len(self._fleet.hosts), 1),
            ROUNDS_BY_PLACED * len(self.placed),
        )
        for number in range(rounds):
            if not self.waiting:
                break
            self._round(self.waiting[number % len(self.waiting)])
        return self._sum() > before

    def _sum(self) -> tuple[float, float]:
        return sum(map(self._worth.__getitem__, self.placed)), sum(map(_size, self.placed))

    def _round(self, wanted: Job) -> None:
        fleet, mark = self._fleet, self._fleet.mark()
        blocked = {job for job in self.waiting if self._over_quota(job)}
        found: Placed = {}
        if wanted in blocked or self._coin():
            moved = self._aim(wanted, found)
        else:
            moved = self._ruin(wanted)
        if not moved:
            fleet.undo(mark)
            return
        self._reseat(wanted, moved, found, blocked)
        if not self._is_as_good(found, moved):
            fleet.undo(mark)
            return
        for job in moved:
            self._leave(job)
        for job, seats in found.items():
            self.placed[job] = seats
            self._enter(job)
        self.waiting = [job for job in (*self.waiting, *moved) if job not in found]

    def _ruin(self, wanted: Job) -> Moved:
        """Lifts what is on a few hosts that one of its workers could be on, were they empty."""
        able = self._able_hosts(self._chance.choice(wanted.members).shape)
        count = min(len(able), self._chance.randint(1, HOSTS_MAX))
        moved: Moved = {}
        for number in self._chance.sample(able, count):
            self._lift(self._on_host.get(number, ()), moved)
        return moved

    def _aim(self, wanted: Job, found: Placed) -> Moved:
        """Lifts enough for the wanted gang and seats it; nothing where that takes too much."""
        moved: Moved = {}
        own = [job for job in self.placed if job.owner == wanted.owner]
        for job in sorted(own, key=self._about) if self._over_quota(wanted) else ():
            self._lift((job,), moved)
            if not self._over_quota(wanted):
                break
        seats = self._make_room(wanted, moved, by_cost=self._coin())
        if seats is None:
            return {}
        found[wanted] = seats
        return moved

    def _reseat(self, wanted: Job, moved: Moved, found: Placed, blocked: Container[Job]) -> None:
        """Seats those that were lifted, and of the others those that may find room now. One that
        was lifted and finds none lifts others of lower priority, whose turn comes later.
        """
        levels = self._levels(moved)
        line = deque(self._in_some_order(wanted, [*moved, *self.waiting]))
        chains_left = CHAINS_MAX
        while line:
            job = line.popleft()
            if job in found or not (job in moved or job in blocked or _fits_some(job, levels)):
                continue
            seats = seat(self._fleet, job, TIGHT)
            if seats is None and job in moved and chains_left:
                chains_left -= 1
                lifted: Moved = {}
                seats = self._chain(job, lifted, moved)
                if seats is not None:
                    moved.update(lifted)
                    levels |= self._levels(lifted)
                    line = deque(self._in_some_order(wanted, [*line, *lifted]))
            if seats is not None:
                found[job] = seats

    def _chain(self, job: Job, lifted: Moved, moved: Moved) -> list[Seat] | None:
        mark = self._fleet.mark()
        seats = self._make_room(job, lifted, by_cost=True, but=moved, below=job.priority)
        if seats is None:
            self._fleet.undo(mark)
        return seats

    def _levels(self, jobs: Iterable[Job]) -> set[Level]:
        """As they now are, of the hosts that these were on."""
        return {taken.host.level for job in jobs for taken in self.placed[job]}

    def _make_room(
        self,
        wanted: Job,
        moved: Moved,
        *,
        by_cost: bool,
        but: Container[Job] = (),
        below: float = float("inf"),
    ) -> list[Seat] | None:
        """Seats it, and before that lifts those of a priority *below* on one host after another,
        until there is room.
        """
        seats = seat(self._fleet, wanted, TIGHT)
        if seats is not None:
            return seats
        for number in self._hosts_for(wanted, by_cost=by_cost):
            on_host = self._on_host.get(number, ())
            jobs = [job for job in on_host if job.priority < below and job not in but]
            if self._lift(jobs, moved):
                seats = seat(self._fleet, wanted, TIGHT)
                if seats is not None:
                    return seats
        return None

    def _lift(self, jobs: Iterable[Job], moved: Moved) -> bool:
        """Takes their places back; whether any had not been lifted before."""
        before = len(moved)
        for job in jobs:
            if job not in moved:
                moved[job] = None
                for taken in self.placed[job]:
                    self._fleet.give(*taken)
        return len(moved) > before

    def _hosts_for(self, wanted: Job, *, by_cost: bool) -> list[int]:
        """Some of the fabric or the one node where it must be as a whole, else any: those with the
        least to lift first, or by chance.
        """
        chance = self._chance
        able = self._able_hosts(chance.choice(wanted.members).shape)
        if wanted.locality is Locality.FABRIC:
            fabric_of = {number: self._fleet.hosts[number].fabric for number in able}
            fabric = chance.choice(sorted(set(fabric_of.values())))
            able = [number for number in able if fabric_of[number] == fabric]
        hosts = chance.sample(able, min(len(able), LOOKS_MAX))
        if wanted.locality is Locality.NODE:
            return hosts[:1]
        if by_cost:
            costs = {n: sum(map(self._about, self._on_host.get(n, ()))) for n in hosts}
            hosts.sort(key=costs.__getitem__)
        return hosts[: HOSTS_MAX + len(wanted.members)]

    def _about(self, job: Job) -> float:
        """What it is worth, more or less."""
        return self._worth[job] * self._chance.uniform(0.3, 1.0)

    def _coin(self) -> bool:
        return self._chance.random() < EVEN

    def _over_quota(self, job: Job) -> bool:
        return bool(self._fleet.quotas.refusal(job.owner, job.devices, job.memory_bytes))

    def _able_hosts(self, shape: Shape) -> list[int]:
        able = self._able.get(shape)
        if able is None:
            builds = {offer.build for offer in shape.offers}
            able = [host.number for host in self._fleet.hosts if host.build in builds]
            self._able[shape] = able
        return able

    def _in_some_order(self, wanted: Job, jobs: Sequence[Job]) -> list[Job]:
        """By priority always; of equal ones the larger first, more or less, or the wanted one."""
        chance = self._chance
        noise, first = chance.choice(NOISES), self._coin()

        def rank(job: Job) -> tuple[float, ...]:
            if first and job is wanted:
                return (-job.priority, float("-inf"))
            _, hardest, size = job.rank
            return (-job.priority, hardest * (1 + noise * chance.random()), size)

        return sorted(jobs, key=rank)

    def _is_as_good(self, now: Iterable[Job], before: Iterable[Job]) -> bool:
        """Whether no less is placed: in all, by priority, nor of the highest that changes."""
        changes: dict[int, float] = {}
        for jobs, sign in ((now, 1), (before, -1)):
            for job in jobs:
                changes[job.priority] = changes.get(job.priority, 0.0) + sign * self._worth[job]
        highest = next((one for _, one in sorted(changes.items(), reverse=True) if one), 0.0)
        return highest >= 0 and sum(changes.values()) >= 0

    def _enter(self, job: Job) -> None:
        for taken in self.placed[job]:
            self._on_host.setdefault(taken.host.number, {})[job] = None

    def _leave(self, job: Job) -> None:
        for taken in self.placed.pop(job):
            self._on_host[taken.host.number].pop(job, None)


def _fits_some(job: Job, levels: Iterable[Level]) -> bool:
    """Whether one of its workers has room there: elsewhere is no more than when it found none."""
    return any(shape.fit(level) >= 0 for _, shape in job.members for level in levels)


def _size(job: Job) -> float:
    """Bytes of devices; a whole device counts as the largest that it could be."""
    return sum(
        shape.demand * max(max(offer.build.sizes) for offer in shape.offers)
        for _, shape in job.members
    )
