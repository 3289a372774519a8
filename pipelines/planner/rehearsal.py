"""A plan played through, step by step: simulated engines under arrivals in time.

Each engine is vLLM's scheduler in outline: a step carries one token of every answer under way and
up to *batched_tokens* of the prompts that wait, first come first served; a request is let in when
the KV cache has room for its prompt and its answer. How long a step takes, the same `StepTimes` say
as in `rates`; queues, batches and bursts are not approximated here but happen.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from math import ceil, inf
from random import Random

import msgspec

from pipelines.planner.demand import Demand, Length
from pipelines.planner.rates import SEQUENCES_MAX, Aggregated, Attained, Disaggregated, Group
from pipelines.planner.times import StepTimes
from registry.spec import Role

REQUESTS = 2000
WARM_UP = 0.1  # of the requests, which find emptier engines than the others and are not judged
SPAN_STEPS = 32  # of one kind that are taken at once
LATE_S = 600.0  # after the last arrival nobody waits any more


class Arrival(msgspec.Struct, frozen=True):
    at_s: float
    length: Length


class Load(msgspec.Struct):
    """What a router sees of a worker, in tokens of prompts: those whose first token has not come,
    and those that decode holds.
    """

    prefill_tokens: int = 0
    context_tokens: int = 0


Choose = Callable[[Sequence[Load]], int]


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


class Outcome(msgspec.Struct, frozen=True):
    """What became of the requests that were judged, and how many were answered at all."""

    attained: Attained  # each on its own
    share: float  # of the requests that were within both
    answered: int
    ttft_s: tuple[float, float]  # median and 95th percentile
    tpot_s: tuple[float, float]


def rehearse(
    group: Group, demand: Demand, arrivals: Iterable[Arrival], choose: Choose | None = None
) -> Outcome:
    """Plays *arrivals*, in the order of their times, on *group*. *choose* picks a worker by the
    loads of all; without it the least loaded one is taken.
    """
    stage = Stage(group, choose or least)
    return judged(stage.run([Job(arrival) for arrival in arrivals]), demand)


def judged(jobs: Sequence[Job], demand: Demand) -> Outcome:
    """What became of *jobs*, in the order they came."""
    warm = jobs[int(len(jobs) * WARM_UP) :]
    slo = demand.slo
    first = [job.ttft_s <= slo.ttft_s for job in warm]
    others = [job.tpot_s <= slo.tpot_s for job in warm]
    count = len(warm)
    return Outcome(
        attained=Attained(sum(first) / count, sum(others) / count),
        share=sum(a and b for a, b in zip(first, others, strict=True)) / count,
        answered=sum(job.last_s < inf for job in jobs),
        ttft_s=_percentiles([job.ttft_s for job in warm]),
        tpot_s=_percentiles([job.tpot_s for job in warm]),
    )


def poisson(demand: Demand, rate: float, *, seed: int, requests: int = REQUESTS) -> list[Arrival]:
    """Arrivals by chance at *rate* a second. Another rate stretches the same ones."""
    draw = Random(seed)  # noqa: S311 - a simulation
    at_s, found = 0.0, []
    for _ in range(requests):
        at_s += draw.expovariate(1.0)
        found.append(Arrival(at_s / rate, draw.choice(demand.lengths)))
    return found


def rate_rehearsed(
    group: Group,
    demand: Demand,
    promised: float,
    *,
    seed: int = 0,
    requests: int = REQUESTS,
    most: float = inf,
    choose: Choose | None = None,
) -> float:
    """The highest rate, a second, at which *demand.share* of the requests are within the SLO, by
    rehearsal: looked for around the *promised* one and up to *most*, to one part in fifty.
    """

    def holds(rate: float) -> bool:
        arrivals = poisson(demand, rate, seed=seed, requests=requests)
        return rehearse(group, demand, arrivals, choose).share >= demand.share

    low, high = 0.0, promised
    if holds(promised):
        low, high = promised, min(most, promised * 1.15)
        while high > low and holds(high):
            low, high = high, min(most, high * 1.15)
    else:
        while high > promised / 16:
            low = high * 0.85
            if holds(low):
                break
            high = low
        else:
            return 0.0
    while high - low > 0.02 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def least(loads: Sequence[Load]) -> int:
    """The one with the least to compute, of several that with the least to hold."""
    return min(range(len(loads)), key=lambda i: (loads[i].prefill_tokens, loads[i].context_tokens))


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


def counts_of(group: Group) -> dict[Role, int]:
    """Workers by role, in the order in which a request passes them."""
    if isinstance(group, Aggregated):
        return {Role.UNIFIED: group.workers}
    return {Role.PREFILL: group.prefills, Role.DECODE: group.decodes}


def engine_of(group: Group, role: Role) -> Engine:
    """A worker more."""
    if isinstance(group, Aggregated):
        return Engine(group.times, group.batched_tokens, prefills=True, decodes=True)
    if role is Role.PREFILL:
        return Engine(group.prefill_times, group.batched_tokens, prefills=True, decodes=False)
    return Engine(group.decode_times, SEQUENCES_MAX, prefills=False, decodes=True)


class Stage:
    """The workers of a group, and what is on its way between them."""

    def __init__(self, group: Group, choose: Choose) -> None:
        self._choose = choose
        self.group = group
        self.ended: list[Job] = []  # all that were answered
        self.open = {  # those that take requests, by role
            role: [engine_of(group, role) for _ in range(count)]
            for role, count in counts_of(group).items()
        }
        first, *second = self.open.values()
        self._first, self._second = first, second[0] if second else []
        self._overhead_s = first[0].times.overhead_s
        self._events: list[tuple[float, int, int, Engine | None, Job | None]] = []
        self._count = 0

    def run(self, jobs: list[Job]) -> list[Job]:
        until_s = jobs[-1].at_s + LATE_S if jobs else 0.0
        coming = iter(jobs)
        self._next_arrival(coming)
        while self._events:
            now, _, mark, engine, job = heappop(self._events)
            if now > until_s:
                break
            if engine is None and job is not None:
                if job.worker == 0:
                    self._next_arrival(coming)
                    job.worker = 1
                    self._take(self._first, job, now)
                else:
                    self._take(self._second, job, now)
            elif engine is None:
                self.look(now)
            elif mark == engine.mark:
                self._end(engine, now)
        return jobs

    def ask_for_look(self, at_s: float) -> None:
        self._push(at_s, 0, None, None)

    def look(self, now: float) -> None:
        """For those whose workers come and go."""

    def _next_arrival(self, coming: Iterator[Job]) -> None:
        job = next(coming, None)
        if job is not None:
            self._push(job.at_s + self._overhead_s, 0, None, job)

    def _take(self, engines: list[Engine], job: Job, now: float) -> None:
        engine = engines[self._choose([one.load for one in engines])]
        before = engine.mark
        engine.take(job, now)
        if engine.mark != before:
            self._push(engine.ends_s, engine.mark, engine, None)

    def _end(self, engine: Engine, now: float) -> None:
        over = engine.end(now)
        if engine.ends_s < inf:
            self._push(engine.ends_s, engine.mark, engine, None)
        group = self.group
        if engine.decodes:
            self.ended += over
        elif isinstance(group, Disaggregated):
            for job in over:
                token_bytes = group.prefill_times.kv_token_bytes
                way_s = job.prompt * token_bytes / group.transfer_bytes_s
                self._push(now + way_s, 0, None, job)

    def _push(self, at_s: float, mark: int, engine: Engine | None, job: Job | None) -> None:
        self._count += 1
        heappush(self._events, (at_s, self._count, mark, engine, job))


def _percentiles(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
