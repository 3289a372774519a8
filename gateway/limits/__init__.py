"""Limits of keys and models, exact over all gateway processes of a machine."""

from gateway.limits.estimate import Estimate, estimate
from gateway.limits.ledger import FILE_NAME as LEDGER_NAME
from gateway.limits.ledger import Ledger, LedgerError
from gateway.limits.limiter import Limiter, Permit

__all__ = ["LEDGER_NAME", "Estimate", "Ledger", "LedgerError", "Limiter", "Permit", "estimate"]
