"""Follows what workers publish of their KV caches, for the policy `kv_events`.

One ZeroMQ subscription for each worker of a model with that policy, as long as it is in the
routing table. vLLM and SGLang publish batches as [topic, number, payload]. A subscription can lose
some (nobody waits for a slow subscriber), and then the worker's index is forgotten: a wrong index
is worse than a small one. Nothing a worker sends can stop the gateway.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import structlog
import zmq
import zmq.asyncio

from gateway.routing.kv_index import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent, KvIndexes
from gateway.routing.table import RoutingTable
from registry.spec import RoutingPolicy

log = structlog.get_logger()

# What may wait here for a busy event loop: a worker sends at most one batch for each of its steps.
BATCHES_QUEUED_MAX = 1000
# Who is heard from so early has told nothing before that matters: it was only probed.
JOINED_EARLY_BATCHES = 64
BATCH_BYTES_MAX = 16 * 1024 * 1024
_RECONNECT_MS, _RECONNECT_MAX_MS = 100, 5_000
_HEARTBEAT_MS, _SILENCE_MAX_MS = 10_000, 30_000
_FRAMES = 3
_NUMBER_BYTES = 8


class _Stored(BlockStored, tag="BlockStored", frozen=True):
    lora_name: str | None = None
    extra_keys: list[Any] | None = None
    group_idx: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether a prompt finds these blocks by its tokens alone. *extra_keys* are of images and
        cache salts; of a hybrid model's KV groups the first stands for all; masked blocks have no
        hash, so the hashes beside them could not be told apart.
        """
        return (
            not (self.lora_name or self.group_idx)
            and not any(self.extra_keys or ())
            and len(self.token_ids) == len(self.block_hashes) * self.block_size
        )


class _Removed(BlockRemoved, tag="BlockRemoved", frozen=True):
    group_idx: int | None = None

    @property
    def is_plain(self) -> bool:
        return not self.group_idx


# Both engines once sent an event as a list of its values, and send it as a map now.
class _NamedStored(_Stored, tag="BlockStored", array_like=False, frozen=True):
    cache_salt: str | None = None  # SGLang's; vLLM has it among the extra keys

    @property
    def is_plain(self) -> bool:
        return not self.cache_salt and super().is_plain


class _NamedRemoved(_Removed, tag="BlockRemoved", array_like=False, frozen=True): ...


class _NamedCleared(AllBlocksCleared, tag="AllBlocksCleared", array_like=False, frozen=True): ...


class _Batch(msgspec.Struct, array_like=True, frozen=True):
    ts: float
    events: list[msgspec.Raw]


_BATCH = msgspec.msgpack.Decoder(_Batch)
_MAP_STARTS = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})  # MessagePack's fixmap, map 16, map 32
_LISTED = msgspec.msgpack.Decoder(_Stored | _Removed | AllBlocksCleared)
_NAMED = msgspec.msgpack.Decoder(_NamedStored | _NamedRemoved | _NamedCleared)


class BadMessageError(Exception):
    """A message that is not a numbered batch of KV events."""


class KvCounts(msgspec.Struct):
    """Since the gateway's start, over all workers."""

    events: int = 0  # applied
    gaps: int = 0  # batches were missing
    bad_messages: int = 0

    def by_kind(self) -> dict[str, int]:
        return {"applied": self.events, "gap": self.gaps, "bad": self.bad_messages}


class KvStream:
    """One worker's messages, in the order they come."""

    def __init__(self, worker_id: str, index: KvIndexes, counts: KvCounts) -> None:
        self._worker_id = worker_id
        self._index = index
        self._counts = counts
        self._next: int | None = None  # None takes any number: the worker began before us
        self._heard = False

    def take(self, frames: Sequence[bytes]) -> None:
        try:
            number, events = decode(frames)
        except BadMessageError as error:
            self._counts.bad_messages += 1
            self._heard = True
            self._distrust(None, f"a message is not understood: {error}")
            return
        if not self._heard and number <= JOINED_EARLY_BATCHES:
            self._index.begins(self._worker_id)
        self._heard = True
        if self._next not in (None, number):
            self._counts.gaps += 1
            self._distrust(number, f"expected batch {self._next}, got {number}")
        self._next = number + 1
        self._index.apply(self._worker_id, events)
        self._counts.events += len(events)

    def _distrust(self, number: int | None, why: str) -> None:
        log.info("KV index forgotten", worker=self._worker_id, why=why)
        self._next = number
        self._index.forget(self._worker_id)


def decode(frames: Sequence[bytes]) -> tuple[int, list[KvEvent]]:
    """The number of a batch, and its events that routing can use. Raises BadMessageError."""
    if len(frames) != _FRAMES or len(frames[1]) != _NUMBER_BYTES:
        raise BadMessageError("its frames are not topic, number and payload")
    events: list[KvEvent] = []
    try:
        for raw in _BATCH.decode(frames[2]).events:
            decoder = _NAMED if memoryview(raw)[0] in _MAP_STARTS else _LISTED
            event: _Stored | _Removed | AllBlocksCleared = decoder.decode(raw)
            if isinstance(event, AllBlocksCleared) or event.is_plain:
                events.append(event)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadMessageError(str(error)) from None
    return int.from_bytes(frames[1], "big"), events


class KvFeed:
    """`follow` each new routing table; `run` does the rest until it is cancelled."""

    def __init__(self, index: KvIndexes) -> None:
        self.counts = KvCounts()
        self._index = index
        self._wanted: frozenset[tuple[str, str]] = frozenset()
        self._changed = asyncio.Event()

    def follow(self, table: RoutingTable) -> None:
        wanted = frozenset(_publishers(table))
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    async def run(self) -> None:
        context = zmq.asyncio.Context()
        try:
            async with asyncio.TaskGroup() as tasks:
                running: dict[tuple[str, str], asyncio.Task[None]] = {}
                while True:
                    self._changed.clear()
                    for gone in running.keys() - self._wanted:
                        running.pop(gone).cancel()
                    for new in self._wanted - running.keys():
                        running[new] = tasks.create_task(self._listen(context, *new))
                    await self._changed.wait()
        finally:
            context.destroy(linger=0)

    async def _listen(self, context: zmq.asyncio.Context, worker_id: str, url: str) -> None:
        stream = KvStream(worker_id, self._index, self.counts)
        try:
            with _subscription(context, url) as socket:
                while True:
                    stream.take(await socket.recv_multipart())
                    # What waits is received without a pause: requests have their turn in between.
                    await asyncio.sleep(0)
        except Exception:
            # Routing goes on by load; ending here would end every answer.
            log.exception("KV events are given up", worker=worker_id, url=url)
        finally:
            self._index.forget(worker_id)


def _subscription(context: zmq.asyncio.Context, url: str) -> zmq.asyncio.Socket:
    """ZeroMQ itself connects again whenever the worker is not there. Raises ZMQError."""
    socket = context.socket(zmq.SUB)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.RCVHWM, BATCHES_QUEUED_MAX)
    socket.set(zmq.MAXMSGSIZE, BATCH_BYTES_MAX)
    socket.set(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.set(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
    socket.set(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, _SILENCE_MAX_MS)
    socket.subscribe(b"")
    try:
        socket.connect(url)
    except zmq.ZMQError:
        socket.close()
        raise
    return socket


def _publishers(table: RoutingTable) -> Iterator[tuple[str, str]]:
    for model in table.models.values():
        if model.policy is RoutingPolicy.KV_EVENTS:
            for variant in model.variants:
                for endpoint in (*variant.unified, *variant.prefill, *variant.decode):
                    if endpoint.events_url:
                        yield endpoint.worker_id, endpoint.events_url
