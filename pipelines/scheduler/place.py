"""Gangs → places, against one snapshot.

For each gang in turn: per worker the nodes that pass every filter, of those the best scored; if
one worker of the gang finds no node, the whole gang is refused and takes nothing.
"""

from collections.abc import Iterable

from pipelines.scheduler.filters import RuntimeOf, Why, first_refusal
from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.proposal import Proposal, Refusal
from pipelines.scheduler.scorers import score
from pipelines.topology import Gang
from registry.state import PlannedGang, PlannedWorker, Snapshot, WorkerPlan


def place(snapshot: Snapshot, gangs: Iterable[Gang], runtime_of: RuntimeOf) -> Proposal:
    """Proposes places for *gangs* in their order. *runtime_of* names the runtime a plan gets on
    a kind of device.
    """
    fleet = Fleet.of(snapshot)
    placed: list[PlannedGang] = []
    refused: list[Refusal] = []
    for gang in gangs:
        trial = fleet.copy()
        outcome = _place_gang(trial, gang, runtime_of)
        if isinstance(outcome, Refusal):
            refused.append(outcome)
        else:
            placed.append(outcome)
            fleet = trial
    return Proposal(placed=tuple(placed), refused=tuple(refused))


def _place_gang(fleet: Fleet, gang: Gang, runtime_of: RuntimeOf) -> PlannedGang | Refusal:
    workers: list[PlannedWorker] = []
    for plan in _hardest_first(gang):
        worker, why = _place_worker(fleet, plan, workers, runtime_of)
        if worker is None:
            return Refusal(gang=gang, plan=plan, why=why)
        fleet.take(worker)
        workers.append(worker)
    return PlannedGang(workers=tuple(workers))


def _hardest_first(gang: Gang) -> list[WorkerPlan]:
    return sorted(gang, key=lambda plan: (-plan.devices, -plan.memory_bytes, plan.slot))


def _place_worker(
    fleet: Fleet, plan: WorkerPlan, gang: list[PlannedWorker], runtime_of: RuntimeOf
) -> tuple[PlannedWorker | None, tuple[Why, ...]]:
    refusals = {node.name: first_refusal(plan, node, fleet, runtime_of) for node in fleet.nodes}
    candidates = [node for node in fleet.nodes if refusals[node.name] is None]
    if not candidates:
        return None, tuple(why for why in refusals.values() if why is not None)
    best = max(candidates, key=lambda node: score(plan, node, fleet, gang))
    claims = fleet.best_devices(best, plan)
    assert claims is not None, "the free-memory filter passed"
    worker = PlannedWorker(
        plan=plan, node=best.name, runtime=runtime_of(plan, best.device_kind), claims=claims
    )
    return worker, ()
