"""What requests used, from the moment they are let in to a row in the registry, through crashes.

========  ==========================================================================
meter     opens and closes requests, and writes the closed ones to the registry
journal   both as they happen, on disk: what a killed process leaves behind
entries   what stands in a journal, and how it is read back
lane      a process's folder and lock, and times that no other request has
sweeper   takes over what dead processes left
recorder  batches into the registry
counts    the numbers that must add up, for Prometheus
========  ==========================================================================
"""

from gateway.metering.counts import UsageCounts
from gateway.metering.entries import Opened
from gateway.metering.meter import Metering
from gateway.metering.recorder import Sink

__all__ = ["Metering", "Opened", "Sink", "UsageCounts"]
