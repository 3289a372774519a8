"""Which worker goes where: filters with reasons, scorers, gangs. Pure and deterministic.

`place` proposes against a snapshot; the registry verifies and claims in one transaction.
"""

from pipelines.scheduler.place import Proposal, Refusal, place

__all__ = ["Proposal", "Refusal", "place"]
