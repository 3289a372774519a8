"""One inference engine: continuous batching, chunked prefill, a finite KV cache with reuse.

It is vLLM's scheduler in outline, for an 8B model (Llama 3.1, bf16) on one H100. Time goes by
steps; each carries one token of every running request and up to a budget of prompt tokens, first
come first served. See README.md for what the constants stand on.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil, inf, sqrt

from simulation.routing.trace import BLOCK_IDS, BLOCK_TOKENS, Request, token_ids

from gateway.routing.kv_index import BlockRemoved, BlockStored, KvEvent

STEP_S = 6e-3  # the weights are read once: 16 GB at 3.35 TB/s, and launch overhead
PREFILL_TOKEN_S = 40e-6  # 16 GFLOP at 40 % of 990 TFLOP/s
ATTENTION_S = 1.3e-9  # per prompt token and token before it: 0.52 MFLOP at the same rate
CONTEXT_TOKEN_S = 43e-9  # per running request's token and step: 128 KiB of KV at 3 TB/s
BATCHED_TOKENS = 8192
SEQUENCES_MAX = 256
KV_TOKENS = 400_000  # 80 GB x 0.9, less weights and activations, by 128 KiB


class Job:
    """One request on one engine."""

    __slots__ = ("cached_tokens", "computed_tokens", "number", "private_blocks", "request")

    def __init__(self, number: int, request: Request) -> None:
        self.number = number
        self.request = request
        self.computed_tokens = 0
        self.cached_tokens = 0
        self.private_blocks = 0


class KvCache:
    """Blocks in use by count of their users, and the rest from the longest unused on."""

    def __init__(self, capacity: int, tell: Callable[[list[KvEvent]], None] | None) -> None:
        self._capacity = capacity
        self._tell = tell
        self._used: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._private = 0

    def admit(self, job: Job) -> bool:
        """Room for the job's prompt and answer, or False. What of its prompt is here is reused."""
        request, used, idle = job.request, self._used, self._idle
        blocks = request.blocks
        total = ceil((request.prompt_tokens + request.output_tokens) / BLOCK_TOKENS)
        mine = sum(block not in used for block in blocks)
        private = total - len(blocks)
        if len(used) + self._private + mine + private > self._capacity:
            return False
        depth = 0
        for block in blocks:
            if block not in used and block not in idle:
                break
            depth += 1
        for block in blocks:
            idle.pop(block, None)
            used[block] = used.get(block, 0) + 1
        self._private += private
        job.private_blocks = private
        job.cached_tokens = min(depth * BLOCK_TOKENS, request.prompt_tokens - 1)
        self._make_room()
        if self._tell and depth < len(blocks):
            new = list(blocks[depth:])
            ids = token_ids(new)
            parent = blocks[depth - 1] if depth else None
            self._tell([BlockStored(new, parent, ids, BLOCK_IDS)])
        return True

    def release(self, job: Job) -> None:
        self._private -= job.private_blocks
        for block in reversed(job.request.blocks):
            left = self._used[block] - 1
            if left:
                self._used[block] = left
            else:
                del self._used[block]
                self._idle[block] = None

    def _make_room(self) -> None:
        over = len(self._used) + len(self._idle) + self._private - self._capacity
        if over > 0:
            gone: list[bytes | int] = [self._idle.popitem(last=False)[0] for _ in range(over)]
            if self._tell:
                self._tell([BlockRemoved(gone)])


class Engine:
    """*answered* is told of each job's first token and *done* of its last, when `ends_at` is."""

    def __init__(
        self,
        *,
        answered: Callable[[Job], None],
        done: Callable[[Job], None],
        tell: Callable[[list[KvEvent]], None] | None = None,
    ) -> None:
        self._answered = answered
        self._done = done
        self._cache = KvCache(KV_TOKENS // BLOCK_TOKENS, tell)
        self._waiting: deque[Job] = deque()
        self._prefilling: deque[Job] = deque()
        self._decoding: list[tuple[int, int, Job]] = []  # by the step of the last token
        self._step = 0
        self._context_tokens = 0
        self._began_at = 0.0
        self._steps = 0  # of the run under way; 0: idle
        self._finished: list[Job] = []  # jobs whose prompt is complete when the run ends
        self.ends_at = inf
        self.prompt_busy_s = 0.0  # with a prompt in work or waiting
        self._prompts = False

    def submit(self, job: Job, now: float) -> None:
        self._waiting.append(job)
        if not self._steps:
            self._begin(now)
        elif not self._prompts:
            self._cut(now)

    def end_run(self) -> None:
        """The run that ends at `ends_at` is over; the next one begins."""
        now = self.ends_at
        steps, running = self._steps, len(self._decoding)
        self._step += steps
        self._context_tokens += steps * running
        if self._prompts or self._waiting:
            self.prompt_busy_s += now - self._began_at
        while self._decoding and self._decoding[0][0] <= self._step:
            self._finish(heappop(self._decoding)[2])
        finished, self._finished = self._finished, []
        for job in finished:
            self._answered(job)
            self._context_tokens += job.request.prompt_tokens + 1
            if job.request.output_tokens <= 1:
                self._finish(job)
            else:
                last = self._step + job.request.output_tokens - 1
                heappush(self._decoding, (last, job.number, job))
        self._begin(now)

    def _finish(self, job: Job) -> None:
        self._context_tokens -= job.request.prompt_tokens + max(1, job.request.output_tokens)
        self._cache.release(job)
        self._done(job)

    def _begin(self, now: float) -> None:
        prompts_s = self._take_prompts()
        running = len(self._decoding)
        self._began_at = now
        self._prompts = prompts_s > 0
        if self._prompts:
            self._steps = 1
        elif running:
            self._steps = self._decoding[0][0] - self._step
        else:
            self._steps = 0
            self.ends_at = inf
            return
        self.ends_at = now + self._lasts_s(self._steps) + prompts_s

    def _lasts_s(self, steps: int) -> float:
        """Each step reads all context, which grows by one token of each request a step."""
        grown = len(self._decoding) * steps * (steps - 1) / 2
        return steps * STEP_S + CONTEXT_TOKEN_S * (self._context_tokens * steps + grown)

    def _cut(self, now: float) -> None:
        """Ends the run of decode steps with the step under way, so that a prompt can join."""
        growth = CONTEXT_TOKEN_S * len(self._decoding) / 2
        first = STEP_S + CONTEXT_TOKEN_S * self._context_tokens - growth
        elapsed = now - self._began_at
        steps = int((sqrt(first * first + 4 * growth * elapsed) - first) / (2 * growth))
        steps = max(1, min(steps, self._steps))
        while steps < self._steps and self._lasts_s(steps) < elapsed:
            steps += 1
        self._steps = steps
        self.ends_at = max(now, self._began_at + self._lasts_s(steps))

    def _take_prompts(self) -> float:
        """Gives the step's budget to prompts in turn; how long they take."""
        budget, lasts_s = BATCHED_TOKENS - len(self._decoding), 0.0
        while budget > 0:
            if not self._prefilling:
                if not self._waiting or len(self._decoding) >= SEQUENCES_MAX:
                    break
                if not self._cache.admit(self._waiting[0]):
                    break
                job = self._waiting.popleft()
                job.computed_tokens = job.cached_tokens
                self._prefilling.append(job)
            job = self._prefilling[0]
            chunk = min(budget, job.request.prompt_tokens - job.computed_tokens)
            middle = job.computed_tokens + chunk / 2
            lasts_s += chunk * (PREFILL_TOKEN_S + ATTENTION_S * middle)
            job.computed_tokens += chunk
            budget -= chunk
            if job.computed_tokens == job.request.prompt_tokens:
                self._finished.append(self._prefilling.popleft())
        return lasts_s
