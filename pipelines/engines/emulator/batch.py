"""When tokens come: the running generations, the waiting ones, and the clock between them.

No task per generation: each is a chain of timer calls, so that thousands cost little.
"""

import asyncio
import random
from collections import deque
from collections.abc import Iterator

from pipelines.engines.emulator.counters import Counters
from pipelines.engines.emulator.faults import Fault, FaultKind
from pipelines.engines.emulator.kv import blocks_of
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.sinks import Sink
from pipelines.engines.emulator.text import Token


class Generation:
    """One answer in the making."""

    __slots__ = (
        "at",
        "cached_tokens",
        "count",
        "fault",
        "limit",
        "prefilled",
        "prompt_tokens",
        "sink",
        "timer",
        "tokens",
    )

    def __init__(
        self,
        tokens: Iterator[Token],
        sink: Sink,
        *,
        limit: int,
        prompt_tokens: int,
        prefilled: bool,
        cached_tokens: int = 0,
        fault: Fault | None = None,
    ) -> None:
        self.tokens = tokens
        self.sink = sink
        self.limit = limit
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = cached_tokens  # of the prompt, whose KV is here already
        self.prefilled = prefilled  # its KV came from elsewhere
        self.fault = fault
        self.count = 0
        self.at = 0.0  # when its next token is due
        self.timer: asyncio.Handle | None = None


class Batch:
    def __init__(
        self,
        options: Options,
        counters: Counters,
        rng: random.Random,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._options = options
        self._counters = counters
        self._rng = rng
        self._loop = loop
        self._running: set[Generation] = set()
        self._waiting: deque[Generation] = deque()
        self._prefill_free_at = 0.0
        self._tpot_s = options.tpot_ms / 1e3

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def blocks(self) -> int:
        return sum(blocks_of(each.prompt_tokens + each.count) for each in self._running)

    def submit(self, generation: Generation) -> None:
        self._waiting.append(generation)
        self._admit()

    def end(self, generation: Generation, reason: str) -> None:
        """Takes a generation out, whether it runs or waits. Again: nothing happens."""
        if generation in self._running:
            self._running.remove(generation)
        elif generation in self._waiting:
            self._waiting.remove(generation)
        else:
            return
        if generation.timer is not None:
            generation.timer.cancel()
        self._counters.finished[reason] += 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._options.max_num_seqs:
            generation = self._waiting.popleft()
            self._running.add(generation)
            self._counters.prompt_tokens += generation.prompt_tokens
            generation.at = self._first_token_at(generation)
            self._schedule(generation)

    def _first_token_at(self, generation: Generation) -> float:
        """Prompts share one prefill throughput; one whose KV came along needs none of it."""
        now = self._loop.time()
        if generation.prefilled:
            return now + self._vary(self._tpot_s)
        uncached = generation.prompt_tokens - generation.cached_tokens
        if self._options.prefill_tokens_per_s:
            work_s = uncached / self._options.prefill_tokens_per_s
            self._prefill_free_at = max(now, self._prefill_free_at) + self._vary(work_s)
            now = self._prefill_free_at
        slower = 1.0
        if generation.fault is not None and generation.fault.kind is FaultKind.SLOW:
            slower = generation.fault.factor
        parts = -(-uncached // (self._options.max_num_batched_tokens or uncached or 1)) or 1
        return now + self._vary(self._options.ttft_ms / 1e3) * parts * slower

    def _schedule(self, generation: Generation) -> None:
        if generation.at <= self._loop.time():
            generation.timer = self._loop.call_soon(self._step, generation)
        else:
            generation.timer = self._loop.call_at(generation.at, self._step, generation)

    def _step(self, generation: Generation) -> None:
        generation.timer = None
        token = next(generation.tokens, None)
        generation.count += 1
        self._counters.generation_tokens += generation.limit > 0  # what pools has none
        if generation.fault is not None and generation.count == generation.fault.after_tokens:
            self._break(generation, token, generation.fault)
            return
        finish = None
        if token is None:
            finish = "stop"
        elif generation.count >= generation.limit:
            finish = "length"
        if finish is None:
            generation.at += self._vary(self._tpot_s)
            self._schedule(generation)
        else:
            self.end(generation, finish)
        generation.sink.put(token, finish)

    def _break(self, generation: Generation, token: Token | None, fault: Fault) -> None:
        generation.sink.put(token, None)
        if fault.kind is not FaultKind.HANG:  # which keeps its place until the client goes
            self.end(generation, "error")
        generation.sink.strike(fault)

    def _vary(self, delay_s: float) -> float:
        jitter = self._options.jitter
        return delay_s * self._rng.uniform(1 - jitter, 1 + jitter) if jitter else delay_s
