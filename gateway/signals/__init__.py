"""What this gateway process tells the registry of its requests: what they did, and what waits.

=========  ==========================================================================
collector  plain numbers by model, variant and revision, closed every few seconds. Pure
teller     the task that takes them to the registry
=========  ==========================================================================
"""

from gateway.signals.collector import Collector, Outcome, Queued
from gateway.signals.teller import Sink, Teller, gateway_id

__all__ = ["Collector", "Outcome", "Queued", "Sink", "Teller", "gateway_id"]
