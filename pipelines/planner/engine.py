"""A simulated engine: vLLM's scheduler in outline, step by step.

A step carries one token of every answer under way and up to *batched_tokens* of the prompts that
wait, first come first served; a request is let in when the KV cache has room for its prompt and its
answer. How long a step takes, `StepTimes` say.
"""

from collections import deque
from heapq import heappop, heappush
from math import ceil, inf

import msgspec

from pipelines.planner.demand import Length
from pipelines.planner.rates import SEQUENCES_MAX
from pipelines.planner.times import StepTimes

SPAN_STEPS = 32  # of one kind that are taken at once


class Arrival(msgspec.Struct, frozen=True):
    at_s: float
    length: Length


class Load(msgspec.Struct):
    """What a router sees of a worker, in tokens of prompts: those whose first token has not come,
    and those that decode holds.
    """

    prefill_tokens: int = 0
    context_tokens: int = 0


class Job:
    __slots__ = ("answer", "arrival", "at_s", "first_s", "last_s", "left", "prompt", "worker")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.at_s = arrival.at_s
        self.prompt = arrival.length.prompt
        self.answer = max(1, arrival.length.answer)
        self.left = 0  # tokens of the prompt that are yet to be computed
        self.first_s = inf
        self.last_s = inf
        self.worker = 0

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.at_s

    @property
    def tpot_s(self) -> float:
        if self.answer == 1:
            return 0.0
        return (self.last_s - self.first_s) / (self.answer - 1) if self.last_s < inf else inf


class Engine:
    """One worker. *done* is told of a job when it leaves, *first* when its first token comes."""

    def __init__(
        self, times: StepTimes, batched_tokens: int, *, prefills: bool, decodes: bool
    ) -> None:
        self.times = times
        self.load = Load()
        self.ends_s = inf  # of the span of steps under way
        self.mark = 0  # what was foretold before it changed is void
        self.prompt_tokens = 0  # computed so far
        self.answer_tokens = 0
        self._batched = batched_tokens
        self._prefills = prefills
        self.decodes = decodes
        self._waiting: deque[Job] = deque()
        self._computing: deque[Job] = deque()
        self._decoding: list[tuple[int, int, Job]] = []  # by the step of the last token
        self._step = 0  # counted over all that were run
        self._number = 0
        self._kv = 0
        self._context = 0  # tokens of all that decode
        self._began_s = 0.0
        self._step_s = 0.0
        self._steps = 0
        self._parts: list[tuple[Job, int]] = []

    @property
    def running(self) -> int:
        """Requests that the step under way carries something of."""
        return len(self._parts) + len(self._decoding)

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._computing) - len(self._parts)

    @property
    def kv_usage(self) -> float:
        """The share of the KV cache that is given away."""
        return self._kv / self.times.kv_tokens

    def take(self, job: Job, now: float) -> None:
        """What its KV cache could never hold it refuses, as engines do."""
        if self._needs(job) > self.times.kv_tokens:
            return
        if self._prefills:
            self.load.prefill_tokens += job.prompt
        else:
            self.load.context_tokens += job.prompt
        self._waiting.append(job)
        if self.ends_s == inf:
            self._begin(now)
        elif self._steps > 1:  # the span is cut at the end of the step under way
            done = max(1, ceil((now - self._began_s) / self._step_s - 1e-9))
            if done < self._steps:
                self._steps = done
                self.ends_s = self._began_s + done * self._step_s
                self.mark += 1

    def end(self, now: float) -> list[Job]:
        """The span that is over: those whose work here is done."""
        if not self._prefills:
            for _, _, job in self._decoding:
                job.first_s = min(job.first_s, self._began_s + self._step_s)
        self._step += self._steps
        tokens = self._steps * len(self._decoding)
        self._context += tokens
        self.answer_tokens += tokens
        over = self._computed(now)
        while self._decoding and self._decoding[0][0] <= self._step:
            job = heappop(self._decoding)[2]
            self._context -= job.prompt + job.answer
            job.last_s = now
            over.append(job)
        for job in over:
            self._kv -= self._needs(job)
            if self.decodes:
                self.load.context_tokens -= job.prompt
        self._begin(now)
        return over

    def _computed(self, now: float) -> list[Job]:
        """Of the prompts that are whole now, those that have nothing left to do here."""
        over: list[Job] = []
        for job, part in self._parts:
            job.left -= part
            self.prompt_tokens += part
            if job.left:
                continue
            self._computing.remove(job)
            self.load.prefill_tokens -= job.prompt
            if not self.decodes:
                over.append(job)
                continue
            self.load.context_tokens += job.prompt
            job.first_s = now
            if job.answer > 1:
                self._decode(job, job.answer - 1)
            else:
                job.last_s = now
                over.append(job)
        return over

    def _needs(self, job: Job) -> int:
        return job.prompt + (job.answer if self.decodes else 1)

    def _decode(self, job: Job, tokens: int) -> None:
        self._number += 1
        self._context += job.prompt + job.answer - tokens
        heappush(self._decoding, (self._step + tokens, self._number, job))

    def _begin(self, now: float) -> None:
        self._admit()
        self._parts = self._next_parts()
        self.mark += 1
        if not self._parts and not self._decoding:
            self.ends_s = inf
            return
        sequences = len(self._decoding)
        context = self._context // sequences if sequences else 0
        prompt = max((job.prompt for job, _ in self._parts), default=0)
        part = sum(part for _, part in self._parts)
        self._began_s = now
        self._step_s = self.times.step_s(part, prompt, sequences, context)
        self._steps = 1
        if not self._parts:
            self._steps = min(SPAN_STEPS, self._decoding[0][0] - self._step)
        self.ends_s = now + self._steps * self._step_s

    def _admit(self) -> None:
        while self._waiting:
            job = self._waiting[0]
            under_way = len(self._computing) + len(self._decoding)
            if self._kv + self._needs(job) > self.times.kv_tokens or under_way >= SEQUENCES_MAX:
                return
            self._waiting.popleft()
            self._kv += self._needs(job)
            if self._prefills:
                job.left = job.prompt
                self._computing.append(job)
            else:
                self._decode(job, job.answer)

    def _next_parts(self) -> list[tuple[Job, int]]:
        left, parts = max(1, self._batched - len(self._decoding)), []
        for job in self._computing:
            part = min(left, job.left)
            parts.append((job, part))
            left -= part
            if not left:
                break
        return parts
