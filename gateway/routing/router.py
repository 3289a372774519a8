"""The gateway's memory around the pure choice: what workers do and hold, turns, recent failures."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from random import random as system_random

from gateway.routing.ask import Ask
from gateway.routing.endpoint import Endpoint
from gateway.routing.health import Health
from gateway.routing.kv_index import KvIndexes
from gateway.routing.load import IDLE, Load, OnLeave, Ticket
from gateway.routing.pick import (
    ASLEEP,
    FULL,
    NOBODY_BARRED,
    Barred,
    Choose,
    Full,
    Random,
    Route,
    cheapest,
    choose_variant,
    least_loaded,
    plan_route,
)
from gateway.routing.prefix import PrefixMemory
from gateway.routing.session import of_session
from gateway.routing.sticky import stick
from gateway.routing.table import ModelRow, VariantRow
from gateway.tallies import Prefixes
from registry.spec import Role, RoutingPolicy, Sticky

_BY_CONTENT = (RoutingPolicy.PREFIX, RoutingPolicy.KV_EVENTS)


class Router:
    """*clock* gives monotonic seconds. *on_leave* is told of each leg that left its worker."""

    def __init__(self, clock: Callable[[], float], random: Random = system_random) -> None:
        self.health = Health()
        self.kv = KvIndexes()
        self.on_leave: OnLeave | None = None
        self.prefixes: dict[tuple[str, str], Prefixes] = {}  # by model and variant
        self._prefixes = PrefixMemory()
        self._loads: dict[str, Load] = {}
        self._clock = clock
        self._random = random
        self._turns: Counter[tuple[str, str, Role]] = Counter()

    @property
    def in_flight(self) -> Mapping[str, int]:
        """Legs by worker id; an idle worker has no entry."""
        return {worker: load.legs for worker, load in self._loads.items() if load.legs}

    def legs(self) -> Iterator[tuple[Endpoint, int]]:
        """The same by endpoint."""
        for load in tuple(self._loads.values()):
            if load.legs and load.endpoint is not None:
                yield load.endpoint, load.legs

    def route(
        self, model: ModelRow, ask: Ask, *, dead: set[str], avoid: set[str]
    ) -> Route | Full | None:
        """Workers for one request. None if every worker of the model that could answer it is
        *dead*, FULL if there are some, and each has as many requests as it may have, ASLEEP if
        one that could would wake up for it.
        """
        ask.policy = model.policy
        ask.cached_tokens = None
        return self._route(model, ask, partial(self._choose, model, ask), dead, avoid)

    def sleeps(self, model: ModelRow, ask: Ask, *, dead: set[str], avoid: set[str]) -> bool:
        """Whether `route` would say ASLEEP. It costs nobody's turn."""
        return self._route(model, ask, _any, dead, avoid) is ASLEEP

    def _route(
        self, model: ModelRow, ask: Ask, choose: Choose, dead: set[str], avoid: set[str]
    ) -> Route | Full | None:
        shunned = self.health.aside(self._clock()) | avoid
        barred = Barred(dead, shunned) if dead or shunned else NOBODY_BARRED
        variants = model.variants
        if any(ask.operation not in row.operations for row in variants):
            variants = tuple(row for row in variants if ask.operation in row.operations)
        full, again = False, None
        while variants:
            variant = variants[0] if len(variants) == 1 else self._variant(model, variants, ask)
            wanted = variant.disaggregated and ask.fits_pair(variant)
            route = plan_route(
                variant,
                wants_prefill=wanted,
                generates=ask.generates,
                barred=barred,
                choose=choose,
            )
            if isinstance(route, Route):
                if route.answerer.worker_id not in avoid:
                    return route
                again = again or route  # it has failed there: better another variant
            full = full or route is FULL
            variants = tuple(row for row in variants if row is not variant)
            if full and not any(row.weight for row in variants):
                break  # a revision without a share is for want of others, not for want of room
        if again or full:
            return again or FULL
        return ASLEEP if model.wake_s else None

    def other_prefill(
        self,
        model: ModelRow,
        ask: Ask,
        route: Route,
        *,
        dead: set[str],
        avoid: set[str],
    ) -> Endpoint | None:
        """Another prefill worker for the route's decode worker, none of *dead* or *avoid*."""
        partners = route.variant.partners[route.answerer.worker_id]
        barred = Barred(dead | avoid, self.health.aside(self._clock()))
        rest = barred.usable(partners)
        return self._choose(model, ask, rest) if rest else None

    def enter(self, endpoint: Endpoint, ask: Ask) -> Ticket:
        """One more leg on this worker, until its ticket leaves."""
        worker = endpoint.worker_id
        load = self._loads.get(worker)
        if load is None:
            load = self._loads[worker] = Load(endpoint)
        tokens = prefill_tokens = ask.tokens
        if _by_content(ask.policy, endpoint):
            cached = self._cached_tokens(ask) if ask.cached_tokens is None else ask.cached_tokens
            prefill_tokens = max(1, tokens - cached.get(worker, 0))
            self._looked_up(endpoint, tokens, tokens - prefill_tokens)
            self._prefixes.learn(worker, ask.blocks)
        return Ticket(
            endpoint,
            load,
            prefill_tokens=prefill_tokens,
            context_tokens=tokens,
            on_leave=self.on_leave,
        )

    def keep(self, worker_ids: frozenset[str], models: frozenset[str]) -> None:
        """Forgets what is remembered of anything else."""
        self.health.keep(worker_ids)
        self.kv.keep(worker_ids)
        self._prefixes.keep(worker_ids)
        self._loads = {w: load for w, load in self._loads.items() if load.legs or w in worker_ids}
        for key in [key for key in self._turns if key[0] not in models]:
            del self._turns[key]

    def _variant(self, model: ModelRow, rows: Sequence[VariantRow], ask: Ask) -> VariantRow:
        if model.sticky is Sticky.NONE:
            return choose_variant(rows, self._random)
        session = ask.session if model.sticky is Sticky.SESSION else ""
        return stick(rows, session or ask.key_id)

    def _choose(self, model: ModelRow, ask: Ask, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        """None if each of them has as many legs as it may have."""
        allowed = model.limits.in_flight_per_worker
        endpoint = self._prefer(model, ask, endpoints)
        if self._loads.get(endpoint.worker_id, IDLE).legs < allowed:
            return endpoint
        free = [e for e in endpoints if self._loads.get(e.worker_id, IDLE).legs < allowed]
        return self._prefer(model, ask, free) if free else None

    def _prefer(self, model: ModelRow, ask: Ask, endpoints: Sequence[Endpoint]) -> Endpoint:
        if len(endpoints) == 1:
            return endpoints[0]
        policy = model.policy
        if policy is RoutingPolicy.ROUND_ROBIN:
            key = (model.name, endpoints[0].variant, endpoints[0].role)
            turn = self._turns[key]
            self._turns[key] = turn + 1
            return endpoints[turn % len(endpoints)]
        if policy is RoutingPolicy.SESSION and ask.session:
            return of_session(endpoints, ask.session, self._loads)
        if _by_content(policy, endpoints[0]):
            cached = ask.cached_tokens = self._cached_tokens(ask)
            return cheapest(endpoints, ask.tokens, cached, self._loads, self._random)
        return least_loaded(endpoints, self._loads, self._random)

    def _looked_up(self, endpoint: Endpoint, tokens: int, found: int) -> None:
        labels = endpoint.model, endpoint.variant
        prefixes = self.prefixes.get(labels)
        if prefixes is None:
            prefixes = self.prefixes[labels] = Prefixes()
        prefixes.queries += tokens
        prefixes.hits += found

    def _cached_tokens(self, ask: Ask) -> Mapping[str, int]:
        """How many tokens of the prompt each worker need not compute: by its own word, or where
        it gave none by what was sent to it.
        """
        per_block = ask.tokens_per_block
        seen = self._prefixes.depths(ask.blocks)
        guessed = {worker: int(depth * per_block) for worker, depth in seen.items()}
        if ask.policy is RoutingPolicy.PREFIX or not ask.token_ids:
            return guessed
        # The engine's count and the estimate differ: it is the share that counts.
        scale = ask.tokens / len(ask.token_ids)
        held = self.kv.cached_tokens(ask.token_blocks)
        exact = {worker: int(tokens * scale) for worker, tokens in held.items()}
        for worker, tokens in guessed.items():
            if worker not in self.kv and tokens > exact.get(worker, 0):
                exact[worker] = tokens
        return exact


def _any(endpoints: Sequence[Endpoint]) -> Endpoint:
    return endpoints[0]


def _by_content(policy: RoutingPolicy, endpoint: Endpoint) -> bool:
    """Decode computes no prompts: there it is load alone that counts."""
    return policy in _BY_CONTENT and endpoint.role is not Role.DECODE
