"""How good a place is for a worker: 0 to 1 each, a weighted sum decides, names break ties.

How well the devices suit (bin packing) is `devices.suits`; the rest is about who else is where.
"""

import msgspec

from pipelines.scheduler.builds import Neighbourhood
from pipelines.scheduler.fleet import Fleet, RoleKey
from pipelines.scheduler.hosts import Host

SAME_FABRIC = 0.5  # of being on the same node


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """What counts how much.

    - *near*: prefill beside decode, their KV travels with every request: most of all.
    - *domains*, *nodes*: replicas of a role apart, so that one failure does not end them all. From
      one replica to none both fall by half: 2.0, more than packing can ever bring.
    - *pack*: large holes stay whole; decides among places that are equal in the above.
    - *weights*: loading them again costs minutes once, so it only tips the scales.
    """

    near: float = 4.0
    domains: float = 2.5
    nodes: float = 1.5
    pack: float = 3.0
    weights: float = 0.3


USUAL = Weights()
# Where room is short, what counts is that all find a place; near still costs nothing.
TIGHT = Weights(near=0.5, domains=0.0, nodes=0.0, pack=3.0, weights=0.0)


class Company:
    """Who of a worker's own variant, and what of its weights, is where already."""

    __slots__ = ("domains", "fabrics", "hosts", "near_hosts", "replicas", "sources", "weights")

    def __init__(
        self,
        fleet: Fleet,
        role: RoleKey,
        partner: RoleKey | None,
        source: str,
        weights: Weights,
    ) -> None:
        hosts = fleet.hosts
        self.weights = weights
        self.replicas = fleet.roles.get(role, {}) if weights.nodes or weights.domains else {}
        self.domains: dict[str | int, int] = {}
        for number, count in self.replicas.items():
            domain = hosts[number].domain
            self.domains[domain] = self.domains.get(domain, 0) + count
        self.near_hosts = fleet.roles.get(partner, {}) if partner else {}
        self.fabrics = {hosts[number].fabric for number in self.near_hosts} - {""}
        self.sources = fleet.on_source.get(source, ()) if weights.weights else ()
        # Hosts that are judged one by one; all others only by their neighbourhood.
        self.hosts = frozenset((*self.replicas, *self.near_hosts, *self.sources))

    def elsewhere(self, neighbourhood: Neighbourhood) -> float:
        """The score of a host there that holds nothing of ours."""
        domain, fabric = neighbourhood
        spread = self.weights.domains / (1 + self.domains.get(domain, 0)) if domain else None
        near = SAME_FABRIC if fabric in self.fabrics else 0.0
        return (
            (self.weights.domains if spread is None else spread)
            + self.weights.nodes
            + self.weights.near * near
        )

    def on(self, host: Host) -> float:
        weights, number = self.weights, host.number
        near = (
            1.0
            if number in self.near_hosts
            else SAME_FABRIC
            if host.fabric and host.fabric in self.fabrics
            else 0.0
        )
        return (
            weights.near * near
            + weights.domains / (1 + self.domains.get(host.domain, 0))
            + weights.nodes / (1 + self.replicas.get(number, 0))
            + (weights.weights if number in self.sources else 0.0)
        )
