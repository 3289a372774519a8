"""Room by moving what this very proposal has placed: nothing of it runs yet, so that is free."""

from collections.abc import Sequence

from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.gangs import Job, Seat, seat
from pipelines.scheduler.scorers import TIGHT
from pipelines.scheduler.search import Scope

# In one call: tries, each of which seats a handful of gangs anew, and seats looked at to find what
# to try. Enough for every refusal of a small fleet, where one gang is a larger part of the whole.
TRIES_MAX = 400
LOOKS_MAX = 12_000

Placed = dict[Job, list[Seat]]


class Rearranging:
    """The budget of one call."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._tries_left = TRIES_MAX
        self._looks_left = LOOKS_MAX

    def make_room(self, job: Job, placed: Placed) -> list[Job] | None:
        """Seats the gang by emptying one host of this proposal's gangs and seating them anew, and
        notes that in *placed*. Returns those of equal priority that lost their place to it, which
        is done only where they were smaller; None where nothing helps.
        """
        fleet = self._fleet
        if fleet.quotas.refusal(job.owner, job.devices, job.memory_bytes):
            return None
        self._looks_left -= sum(map(len, placed.values()))
        if self._looks_left < 0:
            return None
        for number, jobs in self._hosts(job, placed):
            if self._tries_left <= 0:
                return None
            self._tries_left -= 1
            mark = fleet.mark()
            moved = self._try(job, number, jobs, placed)
            if moved is not None:
                lost = [one for one in jobs if one not in moved]
                for one in lost:
                    del placed[one]
                placed.update(moved)
                return lost
            fleet.undo(mark)
        return None

    def _try(self, job: Job, number: int, jobs: Sequence[Job], placed: Placed) -> Placed | None:
        fleet = self._fleet
        for one in jobs:
            for taken in placed[one]:
                fleet.give(*taken)
        within = Scope(host=number) if len(job.members) == 1 else None
        seats = seat(fleet, job, TIGHT, within=within)
        if seats is None:
            return None
        moved: Placed = {job: seats}
        lost = 0.0
        for one in sorted(jobs, key=lambda one: one.rank):
            again = seat(fleet, one, TIGHT)
            if again is not None:
                moved[one] = again
            else:
                lost += one.demand
                if one.priority > job.priority or lost >= job.demand:
                    return None
        return moved

    def _hosts(self, job: Job, placed: Placed) -> list[tuple[int, list[Job]]]:
        """Those that hold gangs of ours and would have room for the hardest member without them,
        the least to move first.
        """
        shape = job.members[0].shape
        on_host: dict[int, list[Job]] = {}
        taken_of: dict[int, dict[int, int]] = {}
        for one, seats in placed.items():
            for taken in seats:
                number = taken.host.number
                mine = on_host.setdefault(number, [])
                if one not in mine:
                    mine.append(one)
                given = taken_of.setdefault(number, {})
                for i in taken.positions:
                    size = taken.shape.memory_bytes or taken.host.build.sizes[i]
                    given[i] = given.get(i, 0) + size
        able = []
        for number, jobs in on_host.items():
            host = self._fleet.hosts[number]
            given = taken_of[number]
            free = tuple(left + given.get(i, 0) for i, left in enumerate(host.free))
            if shape.choose(host.build, free) is not None:
                able.append((sum(one.demand for one in jobs), number, jobs))
        able.sort(key=lambda one: one[:2])
        return [(number, jobs) for _, number, jobs in able]
