"""The gateway's memory around the pure choice: requests in flight, turns, recent failures."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import random as system_random

from gateway.routing.health import Health
from gateway.routing.pick import (
    NOBODY_BARRED,
    Barred,
    Random,
    Route,
    choose_endpoint,
    choose_variant,
    plan_route,
)
from gateway.routing.table import Endpoint, ModelRow, VariantRow
from registry.spec import Role, RoutingPolicy


class Router:
    """*clock* gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float], random: Random = system_random) -> None:
        self.health = Health()
        self.in_flight: dict[str, int] = {}  # by worker id; an idle worker has no entry
        self._clock = clock
        self._random = random
        self._turns: Counter[tuple[str, Role]] = Counter()

    def route(
        self,
        model: ModelRow,
        wants_prefill: Callable[[VariantRow], bool],
        *,
        dead: set[str],
        avoid: set[str],
    ) -> Route | None:
        """Workers for one request; None if every worker of the model is *dead*."""
        shunned = self.health.aside(self._clock()) | avoid
        barred = Barred(dead, shunned) if dead or shunned else NOBODY_BARRED
        choose = partial(self._choose, model)
        variants = model.variants
        while variants:
            variant = variants[0] if len(variants) == 1 else choose_variant(variants, self._random)
            wanted = variant.disaggregated and wants_prefill(variant)
            route = plan_route(variant, wants_prefill=wanted, barred=barred, choose=choose)
            if route is not None:
                return route
            variants = tuple(row for row in variants if row is not variant)
        return None

    def other_prefill(
        self, model: ModelRow, route: Route, *, dead: set[str], avoid: set[str]
    ) -> Endpoint | None:
        """Another prefill worker for the route's decode worker, none of *dead* or *avoid*."""
        partners = route.variant.partners[route.answerer.worker_id]
        barred = Barred(dead | avoid, self.health.aside(self._clock()))
        rest = barred.usable(partners)
        return self._choose(model, rest) if rest else None

    def enter(self, endpoint: Endpoint) -> None:
        """One more request on this worker. Each `enter` is paired with a `leave`."""
        self.in_flight[endpoint.worker_id] = self.in_flight.get(endpoint.worker_id, 0) + 1

    def leave(self, endpoint: Endpoint) -> None:
        left = self.in_flight[endpoint.worker_id] - 1
        assert left >= 0, endpoint.worker_id
        if left:
            self.in_flight[endpoint.worker_id] = left
        else:
            del self.in_flight[endpoint.worker_id]

    def keep(self, worker_ids: frozenset[str], models: frozenset[str]) -> None:
        """Forgets what is remembered of anything else."""
        self.health.keep(worker_ids)
        for key in [key for key in self._turns if key[0] not in models]:
            del self._turns[key]

    def _choose(self, model: ModelRow, endpoints: Sequence[Endpoint]) -> Endpoint:
        turn = 0
        if model.policy is RoutingPolicy.ROUND_ROBIN:
            key = (model.name, endpoints[0].role)
            turn = self._turns[key]
            self._turns[key] = turn + 1
        return choose_endpoint(
            endpoints,
            model.policy,
            in_flight=self.in_flight,
            turn=turn,
            random=self._random,
        )
