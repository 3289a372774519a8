"""Which nodes are silent, and which are clean. Counts only while the cluster answers as a whole.

What is counted is memory, on purpose: a pause of the controller or of the cluster's head starts the
count anew, since it says nothing about the nodes.
"""

from collections import defaultdict
from collections.abc import Iterable

from pipelines.cluster.base import Sighting
from registry.state import ENDED_PHASES, NodeState, Snapshot, Worker

# A silent node gets nothing new from here on; it is too early to replace what it has.
UNKNOWN_AFTER_S = 10.0
# The most that the time between two looks counts: the controller may have slept for longer.
LOOK_S_MAX = 5.0


class NodeWatch:
    """Told of every look at the cluster, it knows how long each node has been silent."""

    def __init__(self, node_lost_s: float) -> None:
        self._lost_s = node_lost_s
        self._unknown_s = min(UNKNOWN_AFTER_S, node_lost_s)
        self._looked_at: float | None = None
        self._silent_s: dict[str, float] = {}

    def nobody_answers(self) -> None:
        """The cluster as a whole was away: all counts begin anew."""
        self._looked_at = None
        self._silent_s.clear()

    def look(self, known: Iterable[str], answered: frozenset[str], now: float) -> None:
        if not answered:
            self.nobody_answers()
            return
        passed_s = 0.0 if self._looked_at is None else min(now - self._looked_at, LOOK_S_MAX)
        self._looked_at = now
        self._silent_s = {
            name: self._silent_s.get(name, 0.0)
            + (max(passed_s, 0.0) if name in self._silent_s else 0.0)
            for name in known
            if name not in answered
        }

    def unknown(self) -> dict[str, float]:
        """The nodes that have been silent for UNKNOWN_AFTER_S, and for how long."""
        return {name: s for name, s in self._silent_s.items() if s >= self._unknown_s}

    def lost(self) -> dict[str, float]:
        """The nodes whose workers are lost."""
        return {name: s for name, s in self._silent_s.items() if s >= self._lost_s}


def surplus(sighting: Sighting, workers: Iterable[Worker]) -> dict[str, set[str]]:
    """By node, the workers on it that have not ended and that the registry does not place there."""
    places = {worker.id: worker.node for worker in workers}
    found: dict[str, set[str]] = defaultdict(set)
    for seen in sighting.workers:
        if seen.phase not in ENDED_PHASES and places.get(seen.worker_id) != seen.node:
            found[seen.node].add(seen.worker_id)
    return found


def may_report(
    node: str, snapshot: Snapshot, sighting: Sighting, strays: dict[str, set[str]]
) -> bool:
    """Whether what the node says of itself may be taken over. One that joins or comes back may get
    new workers then, so it has to be seen without a worker that holds its devices unknown to us.
    """
    known = {known.name for known in snapshot.nodes if known.state is not NodeState.UNKNOWN}
    return node in known or (node in sighting.nodes and not strays.get(node))
