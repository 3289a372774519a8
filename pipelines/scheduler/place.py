"""Gangs → places, against one snapshot: the line from what is wanted to what is proposed."""

from collections.abc import Iterable

from pipelines.scheduler.explanation import refusal
from pipelines.scheduler.filters import RuntimeOf
from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.gangs import Job, as_planned, seat
from pipelines.scheduler.proposal import Proposal, Refusal
from pipelines.scheduler.scorers import USUAL
from pipelines.topology import Gang
from registry.state import PlannedGang, Snapshot


def place(
    snapshot: Snapshot, gangs: Iterable[Gang], runtime_of: RuntimeOf, fleet: Fleet | None = None
) -> Proposal:
    """Proposes places for *gangs*, those of higher priority first, then the hardest. *runtime_of*
    names the runtime a plan gets on a kind of device. A *fleet* of this very snapshot may be kept
    between calls; it is left as it was.
    """
    gangs = tuple(gangs)
    if fleet is None or not fleet.knows_labels(plan for gang in gangs for plan in gang):
        fleet = Fleet(snapshot, label_keys=_labels(gangs))
    mark = fleet.mark()
    jobs = sorted((Job(fleet, gang, runtime_of) for gang in gangs), key=lambda job: job.rank)
    placed: list[PlannedGang] = []
    refused: list[Refusal] = []
    for job in jobs:
        seats = seat(fleet, job, USUAL)
        if seats is not None:
            placed.append(as_planned(seats))
        else:
            refused.append(refusal(fleet, job))
    fleet.undo(mark)
    return Proposal(placed=tuple(placed), refused=tuple(refused))


def _labels(gangs: Iterable[Gang]) -> frozenset[str]:
    return frozenset(key for gang in gangs for plan in gang for key in plan.placement.labels)
