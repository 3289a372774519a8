"""A replay: the trace through the production router onto a fleet of simulated engines."""

from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

from simulation.routing.baselines import DynamoRouter, EagerSglangRouter, SglangRouter
from simulation.routing.engine import Engine, Job
from simulation.routing.trace import BLOCK_IDS, BLOCK_TOKENS, Request, token_ids

from gateway.routing.ask import Ask
from gateway.routing.endpoint import Endpoint
from gateway.routing.load import Ticket
from gateway.routing.pick import Route
from gateway.routing.router import Router
from gateway.routing.table import ModelRow, VariantRow
from registry.spec import EngineName, Limits, Role, RoutingPolicy


class Contender(NamedTuple):
    router: type[Router]
    policy: RoutingPolicy  # for a router of others: what it knows of the caches


CONTENDERS = {
    "round_robin": Contender(Router, RoutingPolicy.ROUND_ROBIN),
    "least_loaded": Contender(Router, RoutingPolicy.LEAST_LOADED),
    "sglang": Contender(SglangRouter, RoutingPolicy.PREFIX),
    "sglang_eager": Contender(EagerSglangRouter, RoutingPolicy.PREFIX),
    "dynamo_approx": Contender(DynamoRouter, RoutingPolicy.PREFIX),
    "dynamo": Contender(DynamoRouter, RoutingPolicy.KV_EVENTS),
    "session": Contender(Router, RoutingPolicy.SESSION),
    "prefix": Contender(Router, RoutingPolicy.PREFIX),
    "kv_events": Contender(Router, RoutingPolicy.KV_EVENTS),
}


class TraceAsk(Ask):
    """A prompt of which only lengths and shared blocks are known."""

    __slots__ = ()

    def __init__(self, request: Request, *, with_tokens: bool) -> None:
        super().__init__(
            prompt=b"",
            prompt_tokens=request.prompt_tokens,
            fits_pair=_no_pair,
            # The first block is the service's own prompt, the second that of the conversation.
            session=str(request.blocks[1]) if len(request.blocks) > 1 else "",
        )
        # Two of the router's blocks are about one of the trace's.
        self._blocks = tuple(2 * block + half for block in request.blocks for half in (0, 1))
        if with_tokens:
            rest = request.prompt_tokens % BLOCK_TOKENS * BLOCK_IDS // BLOCK_TOKENS
            self.token_ids = (*token_ids(request.blocks), *([-1] * rest))

    @property
    def tokens_per_block(self) -> float:
        return BLOCK_TOKENS / 2


class Outcome(NamedTuple):
    """Of one replay. *busy* is the share of the time with a prompt in work or waiting."""

    ttft_s: list[float]
    e2e_s: list[float]
    hit_rate: float
    busy: float


def replay(requests: list[Request], contender: Contender, *, workers: int, seed: int) -> Outcome:
    return _Replay(contender, workers, seed).run(requests)


class _Replay:
    def __init__(self, contender: Contender, workers: int, seed: int) -> None:
        self.now = 0.0
        self.router = contender.router(lambda: self.now, Random(seed).random)
        self.exact = contender.policy is RoutingPolicy.KV_EVENTS
        self.model = a_model(workers, contender.policy)
        self.engines: dict[str, Engine] = {
            endpoint.worker_id: Engine(
                answered=self.answered,
                done=self.done,
                tell=partial(self.router.kv.apply, endpoint.worker_id) if self.exact else None,
            )
            for endpoint in self.model.variants[0].unified
        }
        if self.exact:
            for worker_id in self.engines:
                self.router.kv.begins(worker_id)
        self.tickets: dict[int, Ticket] = {}
        self.ttft_s: list[float] = []
        self.e2e_s: list[float] = []
        self.cached_tokens = 0

    def run(self, requests: list[Request]) -> Outcome:
        due: list[tuple[float, int, str]] = []
        for number, request in enumerate(requests):
            self._work_until(request.at_s, due)
            self.now = request.at_s
            worker = self._route(number, request)
            engine = self.engines[worker]
            engine.submit(Job(number, request), self.now)
            heappush(due, (engine.ends_at, number, worker))
        self._work_until(float("inf"), due)
        assert not self.tickets
        assert not self.router.in_flight
        busy_s = sum(engine.prompt_busy_s for engine in self.engines.values())
        return Outcome(
            self.ttft_s,
            self.e2e_s,
            self.cached_tokens / sum(request.prompt_tokens for request in requests),
            busy_s / len(self.engines) / requests[-1].at_s,
        )

    def _route(self, number: int, request: Request) -> str:
        ask = TraceAsk(request, with_tokens=self.exact)
        route = self.router.route(self.model, ask, dead=set(), avoid=set())
        assert isinstance(route, Route)
        self.tickets[number] = self.router.enter(route.answerer, ask)
        return route.answerer.worker_id

    def _work_until(self, until: float, due: list[tuple[float, int, str]]) -> None:
        while due and due[0][0] <= until:
            at, number, worker = heappop(due)
            engine = self.engines[worker]
            if engine.ends_at != at:
                continue  # cut short, and entered again
            self.now = at
            engine.end_run()
            if engine.ends_at < float("inf"):
                heappush(due, (engine.ends_at, number, worker))

    def answered(self, job: Job) -> None:
        self.ttft_s.append(self.now - job.request.at_s)
        self.cached_tokens += job.cached_tokens
        self.tickets[job.number].answered()

    def done(self, job: Job) -> None:
        self.e2e_s.append(self.now - job.request.at_s)
        ticket = self.tickets.pop(job.number)
        ticket.leave()
        if isinstance(self.router, DynamoRouter):
            self.router.left(ticket)


def a_model(workers: int, policy: RoutingPolicy) -> ModelRow:
    variant = VariantRow(
        name="default",
        weight=100,
        engine=EngineName.VLLM,
        disaggregated=False,
        bypass_tokens=0,
        unified=tuple(_endpoint(number) for number in range(workers)),
        prefill=(),
        decode=(),
        partners={},
    )
    return ModelRow(
        name="m",
        created_at=0.0,
        policy=policy,
        limits=Limits(in_flight_per_worker=1_000_000),
        variants=(variant,),
        reason="",
    )


def _endpoint(number: int) -> Endpoint:
    return Endpoint(
        worker_id=f"w{number}",
        role=Role.UNIFIED,
        model="m",
        revision=1,
        host="127.0.0.1",
        port=9000 + number,
        authority=f"127.0.0.1:{9000 + number}",
        token="",
        kin=(),
        identity=(),
    )


def _no_pair(variant: VariantRow) -> bool:
    return False
