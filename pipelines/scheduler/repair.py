"""Better use of the room there is, where not all found a place: ruin a little, build it anew.

Gangs placed one after the other leave holes that fit nobody. So the places that this very proposal
gave on a few hosts are taken back, and those who had them and those who found none are seated
again, in another order. What is worth less than before is undone.
"""

from collections.abc import Iterable, Sequence
from random import Random

from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.gangs import Job, seat
from pipelines.scheduler.rearrange import Placed
from pipelines.scheduler.scorers import TIGHT

# Rounds in one call: each seats some dozen gangs. In large fleets a round costs more and the last
# gang is a smaller part of the whole.
ROUNDS_MAX = 300
ROUNDS_BY_HOSTS = 10_000
ROUNDS_BY_PLACED = 10
HOSTS_MAX = 4  # ruined in a round
NOISES = (0.0, 0.1, 0.3, 1.0)  # by how much of its size a gang may seem smaller or larger

Worth = list[tuple[int, float]]


class Repair:
    """One call's. *placed* is improved where it stands; *waiting* are those without a place."""

    def __init__(self, fleet: Fleet, placed: Placed, waiting: Iterable[Job]) -> None:
        self._fleet = fleet
        self._placed = placed
        self.waiting = [job for job in waiting if self._lacks_only_room(job)]
        self._chance = Random(0)  # noqa: S311 - the same each time, so that proposals are
        self._size = {job: _size(job) for job in (*placed, *self.waiting)}
        self._on_host: dict[int, dict[Job, None]] = {}
        for job in placed:
            self._enter(job)
        self._able: dict[object, list[int]] = {}

    def run(self) -> None:
        rounds = min(
            ROUNDS_MAX,
            ROUNDS_BY_HOSTS // max(len(self._fleet.hosts), 1),
            ROUNDS_BY_PLACED * len(self._placed),
        )
        for number in range(rounds):
            if not self.waiting:
                return
            self._round(self.waiting[number % len(self.waiting)])

    def _lacks_only_room(self, job: Job) -> bool:
        return all(shape.offers for _, shape in job.members) and not self._fleet.quotas.refusal(
            job.owner, job.devices, job.memory_bytes
        )

    def _round(self, wanted: Job) -> None:
        fleet = self._fleet
        hosts = self._hosts_for(wanted)
        moved = {job: None for number in hosts for job in self._on_host.get(number, ())}
        if not moved:
            return
        mark = fleet.mark()
        for job in moved:
            for taken in self._placed[job]:
                fleet.give(*taken)
        found: Placed = {}
        for job in self._in_some_order(wanted, [*moved, *self.waiting]):
            if job in moved or self._gained(job, hosts):
                seats = seat(fleet, job, TIGHT)
                if seats is not None:
                    found[job] = seats
        if self._worth(found) < self._worth(moved):
            fleet.undo(mark)
            return
        for job in moved:
            self._leave(job)
        for job, seats in found.items():
            self._placed[job] = seats
            self._enter(job)
        self.waiting = [job for job in (*self.waiting, *moved) if job not in found]

    def _hosts_for(self, wanted: Job) -> list[int]:
        """Some that one of its workers could be on, were they empty."""
        shape = self._chance.choice(wanted.members).shape
        able = self._able.get(shape)
        if able is None:
            builds = {offer.build for offer in shape.offers}
            able = [host.number for host in self._fleet.hosts if host.build in builds]
            self._able[shape] = able
        return self._chance.sample(able, min(len(able), self._chance.randint(1, HOSTS_MAX)))

    def _gained(self, job: Job, hosts: Sequence[int]) -> bool:
        """Whether one of these hosts has room for one of its workers: elsewhere is no more room
        than when it found none.
        """
        levels = [self._fleet.hosts[number].level for number in hosts]
        return any(shape.fit(level) >= 0 for _, shape in job.members for level in levels)

    def _in_some_order(self, wanted: Job, jobs: Sequence[Job]) -> list[Job]:
        """By priority always; of equal ones the larger first, more or less, or the wanted one."""
        chance = self._chance
        noise, first = chance.choice(NOISES), chance.random() < 0.5  # noqa: PLR2004 - a coin

        def rank(job: Job) -> tuple[float, ...]:
            if first and job is wanted:
                return (-job.priority, float("-inf"))
            _, hardest, size = job.rank
            return (-job.priority, hardest * (1 + noise * chance.random()), size)

        return sorted(jobs, key=rank)

    def _worth(self, jobs: Iterable[Job]) -> Worth:
        """The size of what is placed, the highest priority first: compared as lists, more of a
        higher one outweighs all of lower ones.
        """
        sizes: dict[int, float] = {}
        for job in jobs:
            sizes[job.priority] = sizes.get(job.priority, 0.0) + self._size[job]
        return sorted(sizes.items(), reverse=True)

    def _enter(self, job: Job) -> None:
        for taken in self._placed[job]:
            self._on_host.setdefault(taken.host.number, {})[job] = None

    def _leave(self, job: Job) -> None:
        for taken in self._placed.pop(job):
            self._on_host[taken.host.number].pop(job, None)


def _size(job: Job) -> float:
    """Bytes of devices; a whole device counts as the largest that it could be."""
    return sum(
        shape.demand * max(max(offer.build.sizes) for offer in shape.offers)
        for _, shape in job.members
    )
