"""Everything at one moment."""

from registry.state.fleet import Device, Node, Pool, Quota
from registry.state.keys import Key
from registry.state.models import Model
from registry.state.value import Value
from registry.state.workers import Claim, Worker
from registry.traffic import Demand


class Snapshot(Value, frozen=True, kw_only=True):
    """A consistent view of everything scheduling and routing need, at event *version*.

    *workers* are the live ones; *ended* the recent history of the slots (for back-off). *demand*
    moves no version.
    """

    version: int
    models: tuple[Model, ...]
    nodes: tuple[Node, ...]
    devices: tuple[Device, ...]
    workers: tuple[Worker, ...]
    ended: tuple[Worker, ...]
    claims: tuple[Claim, ...]
    keys: tuple[Key, ...]
    quotas: tuple[Quota, ...] = ()
    pools: tuple[Pool, ...] = ()
    demand: tuple[Demand, ...] = ()
