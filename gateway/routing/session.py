"""One conversation, one worker: rendezvous hashing with bounded load (Mirrokni et al., 2018).

Each pair of session and worker has a weight by hash, and a session's worker is that of the greatest
weight. So when workers come, only the sessions they win move, and when one goes, only its own. A
worker that has a quarter more legs than its share is passed over for the next by weight.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b

from gateway.routing.load import IDLE, Load
from gateway.routing.table import Endpoint

_OVER_SHARE = 1.25
_MASK = (1 << 64) - 1


@lru_cache(maxsize=65536)
def _digest(text: str) -> int:
    """The same in every process, so that several gateways agree."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _weight(session: int, worker: int) -> int:
    """The finish of splitmix64: each bit of the result depends on each bit given."""
    mixed = session ^ worker
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def of_session(endpoints: Sequence[Endpoint], session: str, loads: Mapping[str, Load]) -> Endpoint:
    """The session's own among *endpoints* (not empty)."""
    mine = _digest(session)
    legs = [loads.get(endpoint.worker_id, IDLE).legs for endpoint in endpoints]
    allowed = math.ceil((sum(legs) + 1) * _OVER_SHARE / len(endpoints))
    within = [e for e, count in zip(endpoints, legs, strict=True) if count < allowed]
    return max(within, key=lambda endpoint: _weight(mine, _digest(endpoint.worker_id)))
