"""What the scheduler answers: places, evictions that would make room, and refusals with reasons."""

import msgspec

from pipelines.scheduler.filters import Why
from pipelines.topology import Gang
from registry.state import PlannedGang, WorkerPlan


class Refusal(msgspec.Struct, frozen=True):
    """A gang that found no place now: the worker that could not be placed, and why on each node.

    With *waits_for* a place is coming: it is free once these workers, which leave or are evicted
    for it, have ended.
    """

    gang: Gang
    plan: WorkerPlan
    why: tuple[Why, ...]
    waits_for: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        plan = self.plan
        nodes = "; ".join(f"{why.node}: {why.sentence}" for why in self.why)
        return f"no place for {plan.variant}/{plan.role}/{plan.ordinal}: {nodes or 'no node'}"


class Eviction(msgspec.Struct, frozen=True):
    """A worker that has to go so that *plan*, of a higher priority, finds a place."""

    worker_id: str
    model: str
    plan: WorkerPlan

    @property
    def sentence(self) -> str:
        plan = self.plan
        return f"makes room for {plan.model} (priority {plan.priority})"


class Proposal(msgspec.Struct, frozen=True):
    """What would be placed where, what would have to go for it, and what cannot be."""

    placed: tuple[PlannedGang, ...]
    refused: tuple[Refusal, ...]
    evicted: tuple[Eviction, ...] = ()
