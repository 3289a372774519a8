"""What a model's demand does to it: targets, worker counts of their own, sleep, other models."""

from enum import StrEnum

from registry.spec.checks import Strict, check_name, check_range, refuse

FALLBACKS_MAX = 8
WORKERS_MAX = 1024


class Slo(Strict, frozen=True, kw_only=True):
    """What its users are promised: time to the first token and between tokens, in seconds; 0
    promises nothing. The autoscaler and the planner hold to it.
    """

    ttft_s: float = 0.0
    tpot_s: float = 0.0

    def __post_init__(self) -> None:
        check_range("ttft_s", self.ttft_s, 0, 86_400)
        check_range("tpot_s", self.tpot_s, 0, 86_400)


class Autoscale(Strict, frozen=True, kw_only=True):
    """A role's number of workers follows its load, between *workers_min* and *workers_max*.

    More of them come when prompts of more than *queued_prompt_tokens_max* a worker wait (prefill,
    unified), when KV caches are fuller than *kv_usage_max* (decode, unified), or where the model's
    SLO is missed; one goes when the load fits 80 % of what stays, *stable_s* long.
    """

    workers_min: int = 1
    workers_max: int
    queued_prompt_tokens_max: int = 8192
    kv_usage_max: float = 0.8
    stable_s: float = 300.0

    def __post_init__(self) -> None:
        check_range("workers_max", self.workers_max, 1, WORKERS_MAX)
        check_range("workers_min", self.workers_min, 1, self.workers_max)
        check_range("queued_prompt_tokens_max", self.queued_prompt_tokens_max, 1, 10**9)
        check_range("kv_usage_max", self.kv_usage_max, 0.05, 1)
        check_range("stable_s", self.stable_s, 1, 86_400)


class Ratio(Strict, frozen=True, kw_only=True):
    """Prefill workers for each decode worker: what the autoscaler may not leave."""

    min: float = 0.001
    max: float = 1000.0

    def __post_init__(self) -> None:
        check_range("max", self.max, 0.001, 1000)
        check_range("min", self.min, 0.001, self.max)


class IdleAction(StrEnum):
    SLEEP = "sleep"  # as lightly as the engine can; where it cannot, it stops
    STOP = "stop"


class Idle(Strict, frozen=True, kw_only=True):
    """After *after_s* without a request the model's workers sleep or stop (0: never). Whoever asks
    for it then waits at most *wake_s* until it is awake.
    """

    after_s: float = 0.0
    then: IdleAction = IdleAction.SLEEP
    wake_s: float = 300.0

    def __post_init__(self) -> None:
        check_range("after_s", self.after_s, 0, 30 * 86_400)
        check_range("wake_s", self.wake_s, 1, 86_400)


class FallbackOn(StrEnum):
    NO_CAPACITY = "no_capacity"  # no worker is ready, the queue is full, or it took too long there
    ERROR = "error"  # the workers failed at it, before the first byte
    CONTEXT_LENGTH = "context_length"  # the prompt is too long for the model


class Fallback(Strict, frozen=True, kw_only=True):
    """Who answers instead: *models*, in their order, when one of *on* is the case."""

    models: tuple[str, ...] = ()
    on: tuple[FallbackOn, ...] = tuple(FallbackOn)

    def __post_init__(self) -> None:
        if len(self.models) > FALLBACKS_MAX:
            refuse("models", f"are {len(self.models)}, allowed are at most {FALLBACKS_MAX}")
        for index, name in enumerate(self.models):
            check_name(f"models[{index}]", name)
        if len(set(self.models)) < len(self.models):
            refuse("models", "has a name twice, allowed is each name once")
        if self.models and not self.on:
            refuse("on", f"is empty, allowed are some of {', '.join(FallbackOn)}")
