"""How long workers take: Llama 3.1 8B in bf16, one NVIDIA A10 a worker.

The form is that of `simulation/routing/engine.py`; README.md says what the constants stand on.
"""

from collections import deque
from heapq import heappop, heappush

import msgspec
from simulation.azure import Arrival

TTFT_S, TPOT_S = 5.0, 0.042  # what is promised
PREFILL_TOKEN_S = 290e-6  # 16 GFLOP at 45 % of 125 TFLOP/s
ATTENTION_S = 9e-9  # per prompt token and token before it: 0.52 MFLOP at the same rate
STEP_S = 28e-3  # the weights are read once: 16 GB at 600 GB/s, and launch overhead
CONTEXT_TOKEN_S = 0.22e-6  # per running request's token and step: 128 KiB of KV at 600 GB/s
SEQUENCE_S = 0.29e-3  # per running request and step: its token's 16 GFLOP
KV_TOKENS = 36_000  # 24 GB x 0.9, less weights and activations, by 128 KiB
TRANSFER_TOKEN_S = 42e-6  # 128 KiB at 25 Gb/s


class Job:
    """A request on its way: when its first and its last token came."""

    __slots__ = ("answer", "arrival", "ends_step", "first_s", "last_s", "prompt", "tokens")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival.at_s
        self.prompt = min(arrival.prompt_tokens, KV_TOKENS // 2)
        self.answer = max(1, arrival.answer_tokens)
        self.tokens = self.prompt + self.answer
        self.ends_step = 0.0
        self.first_s = 0.0
        self.last_s = 0.0

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.arrival

    @property
    def is_in_time(self) -> bool:
        return self.ttft_s <= TTFT_S and self.tpot_s <= TPOT_S

    @property
    def tpot_s(self) -> float:
        return (self.last_s - self.first_s) / (self.answer - 1) if self.answer > 1 else 0.0


class Life(msgspec.Struct):
    """From when to when a worker holds its device, and when it is *ready* in between."""

    began_s: float
    ready_s: float
    leaves: bool = False  # gets nothing new
    ended_s: float | None = None

    def serves(self, now: float) -> bool:
        return self.ready_s <= now and not self.leaves


class Prefill:
    """First come, first served, one prompt at a time: a single one saturates it."""

    def __init__(self, ordinal: int, life: Life) -> None:
        self.ordinal = ordinal
        self.life = life
        self.free_s = life.ready_s
        self.tokens = 0  # of prompts done
        self.count = 0
        self._jobs: deque[tuple[float, float, int]] = deque()  # when each begins and ends; tokens

    def take(self, job: Job, now: float) -> float:
        """When it is done, its KV moved included."""
        lasts = job.prompt * (PREFILL_TOKEN_S + ATTENTION_S * job.prompt / 2)
        begins = max(now, self.free_s)
        self.free_s = begins + lasts
        self._jobs.append((begins, self.free_s, job.prompt))
        return self.free_s + job.prompt * TRANSFER_TOKEN_S

    def requests(self, now: float) -> tuple[int, int]:
        """Running and waiting."""
        while self._jobs and self._jobs[0][1] <= now:
            self.tokens += self._jobs.popleft()[2]
            self.count += 1
        running = sum(begins <= now for begins, _, _ in self._jobs)
        return running, len(self._jobs) - running

    def is_empty(self, now: float) -> bool:
        return not any(self.requests(now))


class Decode:
    """Continuous batching: all running requests get a token with each step. Steps are counted as
    if they went on evenly between two changes of the batch. A request is let in when there is room
    for its prompt and its answer.
    """

    def __init__(self, ordinal: int, life: Life) -> None:
        self.ordinal = ordinal
        self.life = life
        self.generation = 0  # changes with the batch: what was foretold before is void
        self.tokens = 0  # that the KV cache has given room to
        self.told = 0  # tokens generated, of finished answers
        self.load = 0  # what the router balances: tokens of all requests here
        self._waiting: deque[Job] = deque()
        self._running: list[tuple[float, int, Job]] = []
        self._step = 0.0
        self._at_s = life.ready_s
        self._number = 0

    @property
    def kv_usage(self) -> float:
        return self.tokens / KV_TOKENS

    def requests(self) -> tuple[int, int]:
        return len(self._running), len(self._waiting)

    def is_empty(self) -> bool:
        return not self._running and not self._waiting

    def take(self, job: Job, now: float) -> None:
        self._advance(now)
        self._waiting.append(job)
        self.load += job.tokens
        self._admit(now)

    def next_end_s(self) -> float | None:
        if not self._running:
            return None
        return self._at_s + max(0.0, self._running[0][0] - self._step) * self._step_s()

    def finish(self, now: float) -> list[Job]:
        """Those whose last token comes now."""
        self._advance(now)
        done = []
        while self._running and self._running[0][0] <= self._step + 1e-6:
            job = heappop(self._running)[2]
            job.last_s = now
            self.tokens -= job.tokens
            self.load -= job.tokens
            self.told += job.answer
            done.append(job)
        self._admit(now)
        return done

    def _step_s(self) -> float:
        return STEP_S + CONTEXT_TOKEN_S * self.tokens + SEQUENCE_S * len(self._running)

    def _advance(self, now: float) -> None:
        if self._running:
            self._step += (now - self._at_s) / self._step_s()
        self._at_s = now

    def _admit(self, now: float) -> None:
        self.generation += 1
        while self._waiting and self.tokens + self._waiting[0].tokens <= KV_TOKENS:
            job = self._waiting.popleft()
            self.tokens += job.tokens
            self._number += 1
            job.first_s = now + self._step_s()
            job.ends_step = self._step + job.answer
            heappush(self._running, (job.ends_step, self._number, job))
