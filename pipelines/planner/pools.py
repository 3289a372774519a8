"""The long tail: models that share places by taking turns, asleep while nobody asks for them. Pure.

A model whose traffic fills no device needs one only while it is awake. With arrivals by chance at
*rate*, and *awake_min_s* on after the last of them, it is awake for 1 - exp(-rate x awake_min_s)
of the time, and a request finds it asleep with the chance exp(-rate x awake_min_s): that one waits
until it has woken. A pool needs as many places as models are awake at once, by the normal
approximation of their number (`crowd_max`); `rehearse_pool` plays it.
"""

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from math import exp, inf, sqrt
from random import Random

import msgspec

from pipelines.planner.demand import Demand
from pipelines.planner.options import TimesOf
from pipelines.planner.rates import Aggregated, prompt_s
from pipelines.planner.times import NoDataError, StepTimes, Worker

AWAKE_MIN_S = 10.0
SIZES = (1, 2, 4)  # devices of a place; who needs more is no long tail
BATCHED_TOKENS = 2048
WAKE_FIXED_S = 0.5
WAKE_BYTES_S = 20e9  # weights from the host's memory to each device: PCIe 4.0 x16, four fifths
SLEEP_S = 0.3
DEVIATIONS = 1.64  # above the mean number awake: one moment in twenty has more
REQUESTS = 400  # of each member in a rehearsal


class Pooled(msgspec.Struct, frozen=True):
    """A model as a member of a pool of places of its size: *awake* is the share of the time that it
    takes one; *wake_s* what who finds it asleep waits.
    """

    model: str
    worker: Worker
    awake: float
    wake_s: float
    serves_s: float  # what an answer takes, the first token included
    first_s: float  # the first token, of a worker that is awake


class PoolOutcome(msgspec.Struct, frozen=True):
    """The share of each model's requests whose first token came in time."""

    share: Mapping[str, float]


def member_of(
    demand: Demand, times_of: TimesOf, device: str, engine: str, size_max: int
) -> Pooled | None:
    """In the smallest place that serves *demand* when awake, if waking is within its promise for as
    many requests as must be.
    """
    for size in SIZES:
        if size > size_max:
            break
        worker = Worker(engine, device, size, BATCHED_TOKENS)
        try:
            found = _member(demand, worker, times_of(worker))
        except NoDataError:
            continue
        if found is not None:
            return found
    return None


def crowd_max(places: int) -> float:
    """The most that models may be awake on average, together, in so many places."""
    # places = mean + DEVIATIONS * sqrt(mean), solved for the mean
    root = (-DEVIATIONS + sqrt(DEVIATIONS**2 + 4 * places)) / 2
    return root * root if places else 0.0


def rehearse_pool(
    members: Sequence[Pooled],
    demands: Mapping[str, Demand],
    places: int,
    *,
    seed: int,
    requests: int = REQUESTS,
) -> PoolOutcome:
    """Arrivals by chance for each member, played on *places*. Who finds its model asleep waits for
    it to wake, and before that for a place: a free one, or that of a model which nobody has asked
    for in *AWAKE_MIN_S*, the longest ago first. Models wake in the order they were asked for.
    """
    return _Pool(members, demands, places, seed, requests).run()


def _member(demand: Demand, worker: Worker, times: StepTimes) -> Pooled | None:
    group = Aggregated(1, times, worker.batched_tokens)
    if group.attained(demand, demand.rate).both < demand.share:
        return None
    first_s = times.overhead_s + prompt_s(
        times, round(demand.prompt), worker.batched_tokens, sequences=1, context=1
    )
    context = round(demand.prompt + demand.answer / 2)
    wake_s = WAKE_FIXED_S + times.weight_bytes / WAKE_BYTES_S
    asleep = exp(-demand.rate * AWAKE_MIN_S)
    if wake_s + SLEEP_S + first_s > demand.slo.ttft_s and asleep > 1 - demand.share:
        return None
    serves_s = first_s + demand.answer * times.step_s(0, 0, 1, context)
    turn_s = (1 / asleep - 1) / demand.rate + serves_s + wake_s + SLEEP_S
    return Pooled(
        model=demand.model,
        worker=worker,
        awake=turn_s / (turn_s + 1 / demand.rate),
        wake_s=wake_s,
        serves_s=serves_s,
        first_s=first_s,
    )


class _Turn:
    """A member's state: *ready_s* is when it is or was awake, inf while it is asleep."""

    __slots__ = ("asked_s", "busy_until_s", "member", "queue", "ready_s")

    def __init__(self, member: Pooled) -> None:
        self.member = member
        self.ready_s = inf
        self.asked_s = -inf
        self.busy_until_s = -inf
        self.queue: list[float] = []

    def leaves_s(self) -> float:
        """When it may be put to sleep."""
        return max(self.busy_until_s, self.asked_s + AWAKE_MIN_S, self.ready_s)


class _Pool:
    def __init__(
        self,
        members: Sequence[Pooled],
        demands: Mapping[str, Demand],
        places: int,
        seed: int,
        requests: int,
    ) -> None:
        self._turns = {member.model: _Turn(member) for member in members}
        self._demands = demands
        self._places = places
        self._line: list[str] = []
        self._due_s = inf  # when somebody may be put to sleep for those in line
        self._draw = Random(seed)  # noqa: S311 - a simulation
        self._number = count()
        self._events: list[tuple[float, int, str]] = []
        self._left = dict.fromkeys(self._turns, requests)
        self._late = dict.fromkeys(self._turns, 0)
        self._requests = requests

    def run(self) -> PoolOutcome:
        for model in self._turns:
            self._next(model, 0.0)
        while self._events:
            now, _, model = heappop(self._events)
            if now >= self._due_s:
                self._due_s = inf
            if model:
                self._arrive(model, now)
                self._next(model, now)
            self._move(now)
        return PoolOutcome({model: 1 - late / self._requests for model, late in self._late.items()})

    def _next(self, model: str, now: float) -> None:
        if self._left[model]:
            self._left[model] -= 1
            self._push(now + self._draw.expovariate(self._demands[model].rate), model)

    def _push(self, at_s: float, model: str = "") -> None:
        heappush(self._events, (at_s, next(self._number), model))

    def _arrive(self, model: str, now: float) -> None:
        turn = self._turns[model]
        turn.asked_s = now
        if turn.ready_s < inf:
            self._answer(turn, now)
            return
        turn.queue.append(now)
        if model not in self._line:
            self._line.append(model)

    def _answer(self, turn: _Turn, at_s: float) -> None:
        begins = max(at_s, turn.ready_s)
        turn.busy_until_s = max(turn.busy_until_s, begins + turn.member.serves_s)
        slo = self._demands[turn.member.model].slo
        self._late[turn.member.model] += begins - at_s + turn.member.first_s > slo.ttft_s

    def _move(self, now: float) -> None:
        """Wakes who waits, as far as there are places."""
        while self._line:
            awake = [turn for turn in self._turns.values() if turn.ready_s < inf]
            began = now
            if len(awake) >= self._places:
                victim = min(awake, key=lambda t: (t.leaves_s(), t.member.model))
                if victim.leaves_s() > now:
                    if victim.leaves_s() < self._due_s:
                        self._due_s = victim.leaves_s()
                        self._push(self._due_s)
                    return
                victim.ready_s = inf
                began += SLEEP_S
            turn = self._turns[self._line.pop(0)]
            turn.ready_s = began + turn.member.wake_s
            for at_s in turn.queue:
                self._answer(turn, at_s)
            turn.queue.clear()
