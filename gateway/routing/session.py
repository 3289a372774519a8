"""One conversation, one worker: rendezvous hashing with bounded load (Mirrokni et al., 2018).

Each pair of session and worker has a weight by hash, and a session's worker is that of the greatest
weight. So when workers come, only the sessions they win move, and when one goes, only its own. A
worker that has a quarter more legs than its share is passed over for the next by weight.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b

from gateway.routing.endpoint import Endpoint
from gateway.routing.load import IDLE, Load

_OVER_SHARE = 1.25
_MASK = (1 << 64) - 1


def digest(text: str) -> int:
    """The same in every process, so that several gateways agree."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


_worker_digest = lru_cache(maxsize=4096)(digest)


def _weight(session: int, worker: int) -> int:
    """Fibonacci hashing: the high bits of the product, which decide, hang on all bits given."""
    return ((session ^ worker) * 0x9E3779B97F4A7C15) & _MASK


def of_session(endpoints: Sequence[Endpoint], session: str, loads: Mapping[str, Load]) -> Endpoint:
    """The session's own among *endpoints* (not empty)."""
    mine = digest(session)
    legs = [loads.get(endpoint.worker_id, IDLE).legs for endpoint in endpoints]
    allowed = math.ceil((sum(legs) + 1) * _OVER_SHARE / len(endpoints))
    within = [e for e, count in zip(endpoints, legs, strict=True) if count < allowed]
    return max(within, key=lambda endpoint: _weight(mine, _worker_digest(endpoint.worker_id)))
