"""Which worker goes where: filters with reasons, scorers, gangs. Pure and deterministic.

`place` proposes against a snapshot; the registry verifies and claims in one transaction.
"""

from pipelines.scheduler.place import place
from pipelines.scheduler.proposal import Eviction, Proposal, Refusal

__all__ = ["Eviction", "Proposal", "Refusal", "place"]
