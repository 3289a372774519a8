"""Which worker goes where: filters with reasons, scorers, gangs, preemption. Pure, deterministic.

`place` proposes against a snapshot; the registry verifies and claims in one transaction.
"""

from pipelines.scheduler.coming import Promise
from pipelines.scheduler.defragment import Defragmentation, Move, defragment
from pipelines.scheduler.explanation import Verdict, verdicts
from pipelines.scheduler.filters import Reason, RuntimeOf
from pipelines.scheduler.fleet import Fleet
from pipelines.scheduler.place import place
from pipelines.scheduler.proposal import Eviction, Proposal, Refusal, Why

__all__ = [
    "Defragmentation",
    "Eviction",
    "Fleet",
    "Move",
    "Promise",
    "Proposal",
    "Reason",
    "Refusal",
    "RuntimeOf",
    "Verdict",
    "Why",
    "defragment",
    "place",
    "verdicts",
]
