"""How good a node is for a worker: 0 to 1 each, a weighted sum decides, names break ties."""

from collections.abc import Callable, Sequence

from pipelines.scheduler.fleet import Fleet
from registry.state import Node, PlannedWorker, WorkerPlan

Scorer = Callable[[WorkerPlan, Node, Fleet, Sequence[PlannedWorker]], float]


def near_gang(plan: WorkerPlan, node: Node, fleet: Fleet, gang: Sequence[PlannedWorker]) -> float:
    """Prefill beside decode: their KV cache travels between them."""
    del fleet
    others = [worker for worker in gang if worker.plan.role is not plan.role]
    if not others:
        return 1.0
    return sum(worker.node == node.name for worker in others) / len(others)


def spread_replicas(
    plan: WorkerPlan, node: Node, fleet: Fleet, gang: Sequence[PlannedWorker]
) -> float:
    """Replicas of one role apart: one node's end must not end them all."""
    del gang
    return 1.0 / (1 + fleet.replicas(node, plan))


def pack(plan: WorkerPlan, node: Node, fleet: Fleet, gang: Sequence[PlannedWorker]) -> float:
    """Full nodes first, so that empty ones stay whole for large models."""
    del plan, gang
    return 1.0 - fleet.free_share(node)


SCORERS: tuple[tuple[Scorer, float], ...] = ((near_gang, 2.0), (spread_replicas, 1.5), (pack, 1.0))


def score(plan: WorkerPlan, node: Node, fleet: Fleet, gang: Sequence[PlannedWorker]) -> float:
    return sum(weight * scorer(plan, node, fleet, gang) for scorer, weight in SCORERS)
