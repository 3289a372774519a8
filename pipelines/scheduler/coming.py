"""Places that are free only once workers that leave have ended, or sleep: a gang waits for them and
keeps its place, so that nobody of lower rank takes it meanwhile. And room that was made for others.
"""

from collections.abc import Mapping, Sequence

import msgspec

from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.gangs import Job, Seat, seat
from pipelines.scheduler.scorers import TIGHT, USUAL


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """Of devices so much that no gang of this *priority* or a lower one gets."""

    priority: int
    bytes_by_device: Mapping[str, int]


def reserve(
    fleet: Fleet, job: Job, leaving: Sequence[str]
) -> tuple[list[Seat], tuple[str, ...]] | None:
    """The seats that the gang will have, and whom it waits for; None if even then it has none.
    The seats are taken: what is not there yet is owed.
    """
    mark = fleet.mark()
    for worker_id in leaving:
        fleet.release(worker_id)
    seats = seat(fleet, job, USUAL) or seat(fleet, job, TIGHT)
    if seats is None:
        fleet.undo(mark)
        return None
    fleet.undo(mark)
    return seats, take(fleet, job, seats, leaving)


def take(fleet: Fleet, job: Job, seats: Sequence[Seat], leaving: Sequence[str]) -> tuple[str, ...]:
    """Takes seats that are free once all of *leaving* have ended; returns whom they wait for."""
    for one in seats:
        fleet.take(*one)
    return _waited_for(fleet, job, seats, leaving)


def _waited_for(
    fleet: Fleet, job: Job, seats: Sequence[Seat], leaving: Sequence[str]
) -> tuple[str, ...]:
    owed = {
        (taken.host.number, i) for taken in seats for i in taken.positions if taken.host.free[i] < 0
    }
    over_quota = bool(fleet.quotas.refusal(job.owner, 0))
    return tuple(
        worker_id
        for worker_id in leaving
        if (over_quota and fleet.owner(fleet.workers[worker_id]) == job.owner)
        or any(
            (hold.host.number, i) in owed
            for hold in fleet.holds[worker_id]
            for i in hold.bytes_by_position
        )
    )
