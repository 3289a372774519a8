"""The line of those that wait to wake, the oldest promise first, and who sleeps for them."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from pipelines.awake.idle import idlers
from pipelines.awake.line import Line
from pipelines.awake.units import units
from pipelines.awake.wishes import wishes, with_work
from pipelines.scheduler import Promise
from registry.state import Snapshot

_NOBODY: Mapping[str, float] = MappingProxyType({})


class Arrangement(msgspec.Struct, frozen=True, kw_only=True):
    """By worker, with the reason: who is to *wake*, who is to fall a*sleep*, and who is to *leave*,
    since it could not wake where it lies: its slot is then placed anew.
    """

    wake: dict[str, str]
    sleep: dict[str, str]
    leave: dict[str, str]


def arrange(
    snapshot: Snapshot, now: float, worked_at: Mapping[str, float] = _NOBODY
) -> Arrangement:
    """*worked_at*: by worker, when it was last seen at work, whoever asked it: gateways may be cut
    off from the registry.
    """
    asked = with_work(wishes(snapshot.demand, now), snapshot.workers, worked_at)
    by_model = units(snapshot)
    line = Line(snapshot, by_model, asked, now)
    line.run()
    sleep = idlers(by_model, asked, line.pools, now) | line.sleep
    return Arrangement(wake=line.wake, sleep=sleep, leave=line.leave)


def promises(snapshot: Snapshot, now: float) -> tuple[Promise, ...]:
    """What is kept for those that wait to wake, in their order: who wants a new place would else
    take it, and others would have to fall asleep in vain.
    """
    line = Line(snapshot, units(snapshot), wishes(snapshot.demand, now), now)
    line.run()
    return tuple(line.promised)
