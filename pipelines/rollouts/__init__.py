"""From one revision of a model to the next while it serves. Pure.

`handovers` says which workers take whose place, `targets` which of both are wanted now (`old` for
the old ones, `stand_ins` for those of a revision in between), `room` who makes way where there is
none, `gate` whether the new revision does well, `decide` what comes next.
"""

from pipelines.rollouts.decide import Move, Step, decide, watches
from pipelines.rollouts.room import give_way
from pipelines.rollouts.targets import Share, Targets, targets

__all__ = [
    "Move",
    "Share",
    "Step",
    "Targets",
    "decide",
    "give_way",
    "targets",
    "watches",
]
