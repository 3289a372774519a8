"""What the scheduler answers: places, evictions that would make room, and refusals with reasons."""

import msgspec

from pipelines.scheduler.filters import Reason
from pipelines.topology import Gang
from registry.state import PlannedGang, WorkerPlan

NAMES_MAX = 3  # that a sentence lists before it goes on with "…"


class Why(msgspec.Struct, frozen=True):
    """Why these *nodes* not: the reason for machines, the sentence for people. No nodes: it is not
    for any node's sake.
    """

    reason: Reason
    sentence: str
    nodes: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        if not self.nodes:
            return self.sentence
        if len(self.nodes) == 1:
            return f"{self.nodes[0]}: {self.sentence}"
        return f"{len(self.nodes):,} nodes: {self.sentence} ({some_of(self.nodes)})"


class Refusal(msgspec.Struct, frozen=True):
    """A gang that found no place now: the worker that could not be placed, and why, nodes with one
    reason together.

    With *waits_for* a place is coming: it is free once these workers, which leave or are evicted
    for it, have ended, or sleep.
    """

    gang: Gang
    plan: WorkerPlan
    why: tuple[Why, ...]
    waits_for: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        plan = self.plan
        where = f"{plan.variant}/{plan.role}/{plan.ordinal}"
        if self.waits_for:
            count = len(self.waits_for)
            noun = "1 worker" if count == 1 else f"{count} workers"
            return f"{where} waits for {noun} to make room: {some_of(self.waits_for)}"
        return f"no place for {where}: {'; '.join(w.told for w in self.why) or 'no node'}"


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


def some_of(names: tuple[str, ...]) -> str:
    listed = ", ".join(names[:NAMES_MAX])
    return f"{listed}, …" if len(names) > NAMES_MAX else listed
