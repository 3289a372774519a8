"""A plan played through, step by step: simulated engines under arrivals in time.

How long a step takes, the same `StepTimes` say as in `rates`; queues, batches and bursts are not
approximated here but happen.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from math import inf
from random import Random

import msgspec

from pipelines.planner.demand import Demand
from pipelines.planner.engine import Arrival, Engine, Job, Load
from pipelines.planner.rates import SEQUENCES_MAX, Aggregated, Attained, Disaggregated, Group
from registry.spec import Role

REQUESTS = 2000
WARM_UP = 0.1  # of the requests, which find emptier engines than the others and are not judged
LATE_S = 600.0  # after the last arrival nobody waits any more

Choose = Callable[[Sequence[Load]], int]


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
