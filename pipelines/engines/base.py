"""What Modelyard knows of an engine: its command line, its probes, its metrics, its P/D protocol.

An adapter is pure: it turns values into values and never runs, reads or calls anything.
"""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from registry.engine_args import Arg
from registry.spec import Role, Task
from registry.state import DeviceKind, SleepMode

# A request body with its top level parsed and every value still as it came: cheap to read, and
# what we do not touch goes on byte for byte.
Body = dict[str, msgspec.Raw]

_BAD_REQUEST = 400


# What clients may ask for, by its name: `gateway/api/operations.py` has the paths.
_ANSWERS_TEXT = frozenset({"chat.completions", "completions", "responses", "messages"})
_TOKENS = frozenset({"tokenize", "detokenize"})
# The operations that make sense for a model of each task; its engine answers some of them.
TASK_OPERATIONS: Mapping[Task, frozenset[str]] = {
    Task.GENERATE: _ANSWERS_TEXT | _TOKENS | {"count_tokens"},
    Task.EMBED: _TOKENS | {"embeddings", "rerank", "score"},
    Task.RERANK: _TOKENS | {"rerank", "score"},
}
EVERY_OPERATION = frozenset[str]().union(*TASK_OPERATIONS.values())


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a command line depends on, resolved on the node that starts the worker."""

    worker_id: str
    model: str  # the name clients use
    model_path: str  # a local directory, or a hub name the engine itself fetches
    model_revision: str  # of a hub name, else ""
    role: Role
    transfer: str
    host: str  # the address to bind and to announce to peers
    port: int
    kv_port: int  # a second free port, for the KV side channel
    events_url: str = ""  # where to bind and publish KV events, as ZeroMQ names it; "" = nowhere
    token: str
    device_kind: DeviceKind
    device_indexes: tuple[int, ...]
    device_uuids: tuple[str, ...] = ()  # of all devices, or none
    memory_bytes: int  # claimed of the device of which the least share is claimed
    device_memory_bytes: int  # what that device has
    tensor_parallel: int
    pipeline_parallel: int
    args: dict[str, Arg]
    task: Task = Task.GENERATE
    sleeps: bool = False  # it is to be started so that it can be put to sleep


def cuda_environment(launch: Launch, *, by_uuid: bool = True) -> dict[str, str]:
    """The GPUs it may see: by their own names, which survive that one of them is lost and which
    MIG instances need; else by number, in the order in which the driver counts them.
    """
    if by_uuid and launch.device_uuids:
        return {"CUDA_VISIBLE_DEVICES": ",".join(launch.device_uuids)}
    numbers = ",".join(map(str, launch.device_indexes))
    return {"CUDA_VISIBLE_DEVICES": numbers, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def share_text(share: float) -> str:
    """As engines read it: never rounded up, or the shares of a device could add up above it."""
    return f"{math.floor(share * 10_000) / 10_000:.4f}"


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """*argv* follows the runtime's Python interpreter; *env* is laid over the inherited one."""

    argv: tuple[str, ...]
    env: dict[str, str]


class Pairing(StrEnum):
    """How prefill and decode share a request."""

    SEQUENTIAL = "sequential"  # prefill's answer says where its KV lies; decode is asked then
    CONCURRENT = "concurrent"  # both get the same body at once and meet in a room
    NONE = "none"  # it has no such protocol


class Resuming(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine goes on with a text that another worker began: behind a partial assistant
    message, with vLLM's ``continue_final_message``.

    *tokenized* are the fields of a request that its ``/tokenize`` wants to see, to make of them the
    tokens that the request itself would be; with none it has no such route. *counts*: a text has as
    many tokens there as it took to say it.
    """

    tokenized: frozenset[str] = frozenset()
    counts: bool = False


class Sleeping(msgspec.Struct, frozen=True, kw_only=True):
    """A way in which an engine that was started for it (``Launch.sleeps``) is put to sleep and
    woken: POST *body* to a path, with its key. Both may be asked twice; each answers when it is
    done. *held_bytes* is what it still holds of each device then, at most.
    """

    mode: SleepMode
    sleep_path: str
    wake_path: str
    body: bytes = b"{}"
    held_bytes: int


class EngineMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's own counts, since its start."""

    requests_running: int = 0
    requests_waiting: int = 0
    kv_cache_usage: float = 0.0  # 0 to 1
    kv_tokens: int = 0  # that its KV cache has room for; 0 where it does not say
    kv_transfers: int = 0  # KV reads this worker completed
    kv_transfer_failures: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    requests: int = 0  # that it is done with; a pair's request is one of each half


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's *metrics*, as they were *at* that time."""

    at: float
    metrics: EngineMetrics


class Engine(Protocol):
    """The protocol every adapter meets."""

    @property
    def needs_weights(self) -> bool:
        """Whether the model's weights must be on the node before it starts."""

    @property
    def health_path(self) -> str:
        """Answers 200 once the engine's HTTP side is up; "" if it has no such route."""

    @property
    def metrics_path(self) -> str:
        """Where its counts are; "" if it has none."""

    @property
    def has_completions(self) -> bool:
        """Whether it surely answers /v1/completions, beside chats."""

    @property
    def pairing(self) -> Pairing: ...

    @property
    def operations(self) -> frozenset[str]:
        """What an aggregated worker answers; of a model, those in TASK_OPERATIONS of its task."""

    @property
    def paired_operations(self) -> frozenset[str]:
        """What prefill and decode answer together, with the KV moved between them."""

    @property
    def counts_transfers(self) -> Role | None:
        """Which half of a pair counts the KV transfers; None if it has no P/D."""

    @property
    def batch_flag(self) -> str:
        """The flag that bounds how many prompt tokens it computes at once; "" if it has none."""

    def batch_args(self, args: Mapping[str, Arg], tokens: int) -> dict[str, Arg]:
        """A spec's *args* with that bound at *tokens*, and what contradicts it adjusted."""

    @property
    def resuming(self) -> Resuming | None:
        """None if it cannot go on with another worker's text."""

    def default_runtime(self, kind: DeviceKind) -> str:
        """The runtime a variant gets that names none."""

    def sleeping(self, kind: DeviceKind) -> tuple[Sleeping, ...]:
        """How it can sleep on such devices, the quickest to wake first; with none of them it has
        to be stopped.
        """

    def command(self, launch: Launch) -> Command: ...

    def metrics(self, text: str) -> EngineMetrics:
        """Reads the engine's Prometheus exposition; what is missing counts as zero."""

    def prefill_body(self, body: Body, operation: str) -> Body:
        """The request for the prefill leg: one token, not streamed, KV kept for decode. Of
        SEQUENTIAL engines. How a body bounds its tokens depends on the *operation*.
        """

    def decode_body(self, body: Body, prefill_answer: bytes) -> Body:
        """The request for the decode leg. Raises ProtocolError if the answer names no KV. Of
        SEQUENTIAL engines.
        """

    def concurrent_body(
        self, body: Body, *, bootstrap_host: str, bootstrap_port: int, room: int
    ) -> Body:
        """What both legs get at once, of CONCURRENT engines: *bootstrap_host* and
        *bootstrap_port* are the prefill worker's, *room* is for this one request.
        """


_TOO_LONG = re.compile(r"context[ _]length|max_model_len")


def is_too_long(status: int, message: str, code: object) -> bool:
    """Whether a worker refused a request for its length: the prompt, or prompt and answer together,
    are more than the model's context. All engines say so with a 400 and about these words.
    """
    too_long = _TOO_LONG.search(message) or code == "context_length_exceeded"
    return status == _BAD_REQUEST and bool(too_long)


class Unpaired:
    """The P/D half of an adapter that has none; others override what they speak."""

    pairing = Pairing.NONE
    paired_operations: frozenset[str] = frozenset()
    counts_transfers: Role | None = None

    def prefill_body(self, body: Body, operation: str) -> Body:
        del body, operation
        raise self._refusal()

    def decode_body(self, body: Body, prefill_answer: bytes) -> Body:
        del body, prefill_answer
        raise self._refusal()

    def concurrent_body(
        self, body: Body, *, bootstrap_host: str, bootstrap_port: int, room: int
    ) -> Body:
        del body, bootstrap_host, bootstrap_port, room
        raise self._refusal()

    def _refusal(self) -> Exception:
        return NotImplementedError(f"{type(self).__name__} pairs {self.pairing}: not this way")


class Batched:
    """The batch's bound of an adapter whose flag contradicts no other."""

    batch_flag = ""

    def batch_args(self, args: Mapping[str, Arg], tokens: int) -> dict[str, Arg]:
        return {**args, self.batch_flag: tokens}


class ProtocolError(Exception):
    """An engine's answer does not follow its own P/D protocol."""


def prometheus_values(text: str, names: Mapping[str, str]) -> dict[str, float]:
    """Sums the samples of each metric in *names* (metric → key) over their labels."""
    totals: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name = line.partition("{")[0].partition(" ")[0]
        key = names.get(name)
        if key is None:
            continue
        try:
            value = float(line.rpartition(" ")[2])
        except ValueError:
            continue
        totals[key] = totals.get(key, 0.0) + value
    return totals
