"""The formulas of other routers, on the same loads and the same knowledge of caches as ours.

As in PEERS.md section 5 (sglang-router) and issue 4 (Dynamo).
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from gateway.routing.ask import Ask
from gateway.routing.endpoint import Endpoint
from gateway.routing.load import IDLE, Ticket
from gateway.routing.router import Router
from gateway.routing.table import ModelRow


class SglangRouter(Router):
    """`cache_aware`: where loads differ too much the least loaded worker, else the one whose
    memory matches best if that is more than a share of the prompt, else the least loaded.
    Load is requests in flight. The thresholds are gateway-v0.3.1's defaults.
    """

    cache_threshold = 0.3
    balance_abs = 64
    balance_rel = 1.5

    def _prefer(self, model: ModelRow, ask: Ask, endpoints: Sequence[Endpoint]) -> Endpoint:
        legs = [self._loads.get(e.worker_id, IDLE).legs for e in endpoints]
        most, least = max(legs), min(legs)
        if not (most - least > self.balance_abs and most > self.balance_rel * least):
            cached = self._cached_tokens(ask)
            matched = [cached.get(e.worker_id, 0) for e in endpoints]
            best = max(matched)
            if best > self.cache_threshold * ask.tokens:
                return self._one_of(endpoints, matched, best)
        return self._one_of(endpoints, legs, least)

    def _one_of(self, endpoints: Sequence[Endpoint], of: list[int], value: int) -> Endpoint:
        ties = [e for e, mine in zip(endpoints, of, strict=True) if mine == value]
        return ties[int(self._random() * len(ties))]


class EagerSglangRouter(SglangRouter):
    """The same with the defaults of its source instead of its command line."""

    cache_threshold = 0.5
    balance_abs = 32
    balance_rel = 1.1


class DynamoRouter(Router):
    """Lowest of `max(0, active_prefill + prompt_blocks - overlap) + active_decode +
    incoming_blocks`. Blocks that several requests share on a worker are active once, and incoming
    are those not active there yet.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._active: dict[str, Counter[int]] = {}
        self._asks: dict[Ticket, Ask] = {}

    def _prefer(self, model: ModelRow, ask: Ask, endpoints: Sequence[Endpoint]) -> Endpoint:
        cached = self._cached_tokens(ask)
        best: list[Endpoint] = []
        least = float("inf")
        for endpoint in endpoints:
            worker = endpoint.worker_id
            load = self._loads.get(worker, IDLE)
            active = self._active.get(worker, {})
            prefill = max(0, load.prefill_tokens + ask.tokens - cached.get(worker, 0))
            incoming = len(ask.blocks) - _depth(ask.blocks, active)
            cost = prefill / ask.tokens_per_block + len(active) + incoming
            if cost < least:
                best, least = [endpoint], cost
            elif cost == least:
                best.append(endpoint)
        return best[int(self._random() * len(best))]

    def enter(self, endpoint: Endpoint, ask: Ask) -> Ticket:
        ticket = super().enter(endpoint, ask)
        self._active.setdefault(endpoint.worker_id, Counter()).update(ask.blocks)
        self._asks[ticket] = ask
        return ticket

    def left(self, ticket: Ticket) -> None:
        active = self._active[ticket.endpoint.worker_id]
        for block in self._asks.pop(ticket).blocks:
            active[block] -= 1
            if not active[block]:
                del active[block]


def _depth(blocks: Sequence[int], active: Mapping[int, int]) -> int:
    """Whoever has a block active has those before it."""
    for depth, block in enumerate(blocks):
        if block not in active:
            return depth
    return len(blocks)
