"""The choice: which variant, which shape, which workers. Pure; chance comes in as *random*."""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from gateway.routing.table import Endpoint, VariantRow
from registry.spec import RoutingPolicy

Random = Callable[[], float]  # 0 <= random() < 1
Choose = Callable[[Sequence[Endpoint]], Endpoint]


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


def choose_endpoint(
    endpoints: Sequence[Endpoint],
    policy: RoutingPolicy,
    *,
    in_flight: Mapping[str, int],
    turn: int,
    random: Random,
) -> Endpoint:
    """One of *endpoints* (not empty). *turn* counts a role's requests, for round robin."""
    if len(endpoints) == 1:
        return endpoints[0]
    if policy is RoutingPolicy.ROUND_ROBIN:
        return endpoints[turn % len(endpoints)]
    loads = [in_flight.get(endpoint.worker_id, 0) for endpoint in endpoints]
    least = min(loads)
    ties = [e for e, load in zip(endpoints, loads, strict=True) if load == least]
    return ties[int(random() * len(ties))]


def choose_variant(variants: Sequence[VariantRow], random: Random) -> VariantRow:
    """One of *variants* (not empty) by weight; one of weight 0 never."""
    point = random() * sum(variant.weight for variant in variants)
    for variant in variants:
        point -= variant.weight
        if point < 0:
            return variant
    return max(variants, key=lambda variant: variant.weight)


def plan_route(
    variant: VariantRow, *, wants_prefill: bool, barred: Barred, choose: Choose
) -> Route | None:
    """Workers of one variant for one request, best shape first; None if nobody is left.

    While a variant changes its topology it has workers of both shapes: those of the shape it is
    declared with come first, and a whole shape before half of one.
    """
    unified = barred.usable(variant.unified)
    if unified and not variant.disaggregated:
        return Route(variant, Mode.AGGREGATED, choose(unified), None)
    decode = barred.usable(variant.decode)
    if decode and not wants_prefill:
        return Route(variant, Mode.BYPASS, choose(decode), None)
    paired = [d for d in decode if barred.usable(variant.partners[d.worker_id])]
    if paired:
        answerer = choose(paired)
        partners = barred.usable(variant.partners[answerer.worker_id])
        return Route(variant, Mode.DISAGGREGATED, answerer, choose(partners))
    if unified:
        return Route(variant, Mode.AGGREGATED, choose(unified), None)
    rest = decode or barred.usable(variant.prefill)
    return Route(variant, Mode.DEGRADED, choose(rest), None) if rest else None
