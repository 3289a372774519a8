"""The choice: which variant, which shape, which workers. Pure; chance comes in as *random*."""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum, StrEnum
from math import inf
from typing import Final, NamedTuple

from gateway.routing.endpoint import Endpoint
from gateway.routing.load import IDLE, Load
from gateway.routing.table import VariantRow
from pipelines.engines.base import Pairing

Random = Callable[[], float]  # 0 <= random() < 1
# None: all of them have as much as they may have.
Choose = Callable[[Sequence[Endpoint]], Endpoint | None]
# What a prompt's token costs that has to be computed, in units of its own time: see `cheapest`.
COMPUTED_WEIGHT = 4
# What a token of context costs while it is held. Reading its KV (128 KiB at 3 TB/s) takes about a
# thousandth of what computing it takes (16 GFLOP at 400 TFLOP/s), a hundred times or more.
CONTEXT_WEIGHT = 0.1


class Mode(StrEnum):
    """How a request was served; the answer's x-modelyard-mode."""

    AGGREGATED = "aggregated"
    DISAGGREGATED = "disaggregated"
    BYPASS = "bypass"  # on purpose without prefill: a short prompt, or a form P/D can't carry
    DEGRADED = "degraded"  # one half of a pair is missing, the other serves alone


class Route(NamedTuple):
    """*answerer* gives the client's answer; *prefill*, if any, is asked before it."""

    variant: VariantRow
    mode: Mode
    answerer: Endpoint
    prefill: Endpoint | None


class Full(Enum):
    """Why a request has to wait. FULL: each worker that could be used has all the requests it may
    have. ASLEEP: there is none, but one will wake up, or is about to.
    """

    FULL = "full"
    ASLEEP = "asleep"


FULL: Final = Full.FULL
ASLEEP: Final = Full.ASLEEP


class Barred(NamedTuple):
    """Worker ids not to use: *dead* ones in no case, *shunned* ones only if nobody else is left
    of their role (the last of a role is never given up: it fails fast instead).
    """

    dead: Collection[str]
    shunned: Collection[str]

    def usable(self, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        if self.dead:
            endpoints = [e for e in endpoints if e.worker_id not in self.dead]
        if self.shunned:
            return [e for e in endpoints if e.worker_id not in self.shunned] or endpoints
        return endpoints


NOBODY_BARRED = Barred(frozenset(), frozenset())


def least_loaded(
    endpoints: Sequence[Endpoint], loads: Mapping[str, Load], random: Random
) -> Endpoint:
    """The one with fewer tokens in flight, of two of *endpoints* (not empty) drawn by chance.

    Two choices come close to the best of all, and gateways that don't know of each other's
    requests don't all run to the same worker.
    """
    count = len(endpoints)
    first = endpoints[int(random() * count)]
    if count == 1:
        return first
    second = endpoints[int(random() * (count - 1))]
    if second is first:
        second = endpoints[-1]
    one, other = loads.get(first.worker_id, IDLE), loads.get(second.worker_id, IDLE)
    return second if _weighed(other) < _weighed(one) else first


def _weighed(load: Load) -> float:
    return load.prefill_tokens + CONTEXT_WEIGHT * load.context_tokens


def cheapest(
    endpoints: Sequence[Endpoint],
    tokens: int,
    cached_tokens: Mapping[str, int],
    loads: Mapping[str, Load],
    random: Random,
) -> Endpoint:
    """The one of *endpoints* (not empty) where a prompt of *tokens* costs everybody the least.

    In units of the time to compute one token of a prompt:

        cost = prefill + COMPUTED_WEIGHT x (tokens - cached) + CONTEXT_WEIGHT x context

    *prefill* is what this request waits for: all that the worker has been given and not computed
    yet. What it does not find in the cache it computes, and that costs more than its own time: so
    long as the queue is not empty those who come later wait for it as well. In a queue that is
    busy for a share r of the time, one unit of work prolongs the busy period by 1 / (1 - r), which
    is 4 where r is three quarters. That weight is what makes a warm worker worth a short wait, and
    what keeps copies of the same blocks from pushing out others. *context* is what decode holds
    beside it: it is read at each step and takes room that the cache could use.
    """
    best: list[Endpoint] = []
    least = inf
    fixed = COMPUTED_WEIGHT * tokens
    for endpoint in endpoints:
        worker = endpoint.worker_id
        cost: float = fixed
        if load := loads.get(worker):
            cost += load.prefill_tokens + CONTEXT_WEIGHT * load.context_tokens
        if cached := cached_tokens.get(worker):
            cost -= COMPUTED_WEIGHT * cached
        if cost < least:
            best = [endpoint]
            least = cost
        elif cost == least:
            best.append(endpoint)
    return best[0] if len(best) == 1 else best[int(random() * len(best))]


def choose_variant(variants: Sequence[VariantRow], random: Random) -> VariantRow:
    """One of *variants* (not empty) by weight; one of weight 0 never."""
    point = random() * sum(variant.weight for variant in variants)
    for variant in variants:
        point -= variant.weight
        if point < 0:
            return variant
    return max(variants, key=lambda variant: variant.weight)


def plan_route(
    variant: VariantRow,
    *,
    wants_prefill: bool,
    generates: bool = True,
    barred: Barred,
    choose: Choose,
) -> Route | Full | None:
    """Workers of one variant for one request, best shape first; None if nobody is left. Where
    nothing is to be generated half of a pair is enough, whatever the pairing.

    While a variant changes its topology it has workers of both shapes: those of the shape it is
    declared with come first, and a whole shape before half of one. A shape that is full is
    waited for, not traded for a worse one.
    """
    unified = barred.usable(variant.unified)
    if unified and not variant.disaggregated:
        return _alone(variant, Mode.AGGREGATED, choose(unified))
    # Whether one of them can serve alone.
    halves = variant.pairing is not Pairing.CONCURRENT or not generates
    decode = barred.usable(variant.decode)
    if decode and not wants_prefill and halves:
        return _alone(variant, Mode.BYPASS, choose(decode))
    paired = [d for d in decode if barred.usable(variant.partners[d.worker_id])]
    if paired:
        answerer = choose(paired)
        if answerer is None:
            return FULL
        prefill = choose(barred.usable(variant.partners[answerer.worker_id]))
        return FULL if prefill is None else Route(variant, Mode.DISAGGREGATED, answerer, prefill)
    if unified:
        return _alone(variant, Mode.AGGREGATED, choose(unified))
    rest = (decode or barred.usable(variant.prefill)) if halves else ()
    return _alone(variant, Mode.DEGRADED, choose(rest)) if rest else None


def _alone(variant: VariantRow, mode: Mode, answerer: Endpoint | None) -> Route | Full:
    return FULL if answerer is None else Route(variant, mode, answerer, None)
