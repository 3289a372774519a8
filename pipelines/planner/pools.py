"""The long tail: models that share places by taking turns, asleep while nobody asks for them. Pure.

A model whose traffic fills no device needs one only while it is awake. With arrivals by chance at
*rate*, and *awake_min_s* on after the last of them, it is awake for 1 - exp(-rate x awake_min_s)
of the time, and a request finds it asleep with the chance exp(-rate x awake_min_s): that one waits
until it has woken. A model wakes where it sleeps, so a place serves as many as are seldom awake at
once, if their number is a Poisson one (`crowd_max`); `rehearse_pool` plays it.
"""

from collections.abc import Mapping, Sequence
from math import exp, inf
from random import Random

import msgspec

from pipelines.awake.line import BUSY_AFTER_SHARE
from pipelines.drains import DRAIN_MIN_S
from pipelines.planner.demand import Demand, Length
from pipelines.planner.options import TimesOf
from pipelines.planner.rates import Aggregated, prompt_s
from pipelines.planner.times import NoDataError, StepTimes, Worker

AWAKE_MIN_S = 3.0
SIZES = (1, 2, 4)  # devices of a place; who needs more is no long tail
BATCHED_TOKENS = 2048
WAKE_FIXED_S = 0.5
WAKE_BYTES_S = 20e9  # weights from the host's memory to each device: PCIe 4.0 x16, four fifths
TURN_S = 0.5  # the controller's
CROWD = 0.355  # awake on average in a place, by chance: one moment in twenty has two or more
REQUESTS = 400  # of each member in a rehearsal


class Pooled(msgspec.Struct, frozen=True):
    """A model as a member of a pool of places of its size: *awake* is the share of the time that it
    takes one; *wake_s* what who finds it asleep waits, *falls_s* until it has left the devices, its
    weights copied to the host. Alone it takes *memory_bytes* of each device.
    """

    model: str
    worker: Worker
    awake: float
    wake_s: float
    falls_s: float
    memory_bytes: int
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
    return CROWD * places


def rehearse_pool(
    members: Sequence[Pooled],
    demands: Mapping[str, Demand],
    places: int,
    *,
    seed: int,
    requests: int = REQUESTS,
) -> PoolOutcome:
    """Arrivals by chance for each member, played by the rules of `pipelines.awake` in outline. Each
    member wakes in the one place where it sleeps (the scheduler spreads them evenly). Who finds its
    model asleep waits until whoever is awake there may go, has drained, and has left the device. In
    the order in which first tokens are due. That some are placed anew elsewhere is left out.
    """
    draw = Random(seed)  # noqa: S311 - a simulation
    by_name = sorted(members, key=lambda member: member.model)
    share: dict[str, float] = {}
    for number in range(places):
        turns = [_Turn(one, demands[one.model]) for one in by_name[number::places]]
        place = _Place(turns)
        arrivals: list[tuple[float, int, Length]] = []
        for index, turn in enumerate(turns):
            at_s = 0.0
            for _ in range(requests):
                at_s += draw.expovariate(turn.demand.rate)
                arrivals.append((at_s, index, draw.choice(turn.demand.lengths)))
        _play(place, turns, sorted(arrivals, key=lambda one: one[:2]))
        share |= {model: 1 - late / requests for model, late in place.late.items()}
    return PoolOutcome(share)


def _member(demand: Demand, worker: Worker, times: StepTimes) -> Pooled | None:
    group = Aggregated(1, times, worker.batched_tokens)
    if group.attained(demand, demand.rate).both < demand.share:
        return None
    first_s = times.overhead_s + prompt_s(
        times, round(demand.prompt), worker.batched_tokens, sequences=1, context=1
    )
    context = round(demand.prompt + demand.answer / 2)
    falls_s = times.weight_bytes / WAKE_BYTES_S
    wake_s = WAKE_FIXED_S + falls_s
    switch_s = TURN_S + DRAIN_MIN_S + falls_s + wake_s
    asleep = exp(-demand.rate * AWAKE_MIN_S)
    if switch_s + first_s > demand.slo.ttft_s and asleep > 1 - demand.share:
        return None
    serves_s = first_s + demand.answer * times.step_s(0, 0, 1, context)
    turn_s = (1 / asleep - 1) / demand.rate + serves_s + switch_s
    return Pooled(
        model=demand.model,
        worker=worker,
        awake=turn_s / (turn_s + 1 / demand.rate),
        wake_s=wake_s,
        falls_s=falls_s,
        memory_bytes=times.memory_bytes,
        serves_s=serves_s,
        first_s=first_s,
    )


_Asked = tuple[float, Length]  # when, and for what


class _Turn:
    """A member's state: *ready_s* is when it is or was awake, inf while it is asleep; *queue* are
    those that wait for it to wake.
    """

    __slots__ = ("busy_until_s", "demand", "is_falling", "member", "queue", "ready_s")

    def __init__(self, member: Pooled, demand: Demand) -> None:
        self.member = member
        self.demand = demand
        self.ready_s = inf
        self.busy_until_s = -inf
        self.is_falling = False
        self.queue: list[_Asked] = []

    @property
    def due_s(self) -> float:
        """When the first token of who has waited longest is."""
        return self.queue[0][0] + self.demand.slo.ttft_s

    def times_s(self, length: Length) -> tuple[float, float]:
        """Until the first and the last token of a request, in proportion to those of the mean."""
        first_s = self.member.first_s * length.prompt / self.demand.prompt
        others_s = self.member.serves_s - self.member.first_s
        return first_s, first_s + others_s * length.answer / self.demand.answer

    @property
    def takes(self) -> bool:
        return self.ready_s < inf and not self.is_falling

    def goes_s(self, waiting: "_Turn") -> float:
        """When it may be told to sleep for one that waits: idle, or once that one's time runs."""
        runs_s = waiting.due_s - (1 - BUSY_AFTER_SHARE) * waiting.demand.slo.ttft_s
        return max(self.ready_s + AWAKE_MIN_S, min(self.busy_until_s, runs_s))


class _Place:
    """Its members take turns there, and nowhere else."""

    def __init__(self, turns: Sequence[_Turn]) -> None:
        self._turns = turns
        self._free_s = 0.0  # from when on whoever is next may wake
        self.late = dict.fromkeys((turn.member.model for turn in turns), 0)

    def arrive(self, turn: _Turn, asked: _Asked) -> None:
        if turn.takes:
            self._answer(turn, asked)
        else:
            turn.queue.append(asked)

    def move(self, now: float) -> float | None:
        """What is to be done at *now*; when there is more, if nobody asks before."""
        for turn in self._turns:
            if turn.is_falling and self._free_s <= now:
                turn.is_falling, turn.ready_s = False, inf
        waiting = [turn for turn in self._turns if turn.queue]
        if not waiting:
            return None
        if self._free_s > now:
            return self._free_s
        first = min(waiting, key=lambda turn: (turn.due_s, turn.member.model))
        holder = next((turn for turn in self._turns if turn.ready_s < inf), None)
        if holder is None:
            first.ready_s = now + TURN_S / 2 + first.member.wake_s
            for asked in first.queue:
                self._answer(first, asked)
            first.queue.clear()
            return self.move(now)
        goes_s = holder.goes_s(first)
        if goes_s > now:
            return goes_s
        holder.is_falling = True
        drained_s = max(now + TURN_S / 2 + DRAIN_MIN_S, holder.busy_until_s)
        self._free_s = drained_s + holder.member.falls_s
        return self._free_s

    def _answer(self, turn: _Turn, asked: _Asked) -> None:
        at_s, length = asked
        first_s, last_s = turn.times_s(length)
        begins = max(at_s, turn.ready_s)
        turn.busy_until_s = max(turn.busy_until_s, begins + last_s)
        self.late[turn.member.model] += begins - at_s + first_s > turn.demand.slo.ttft_s


def _play(
    place: _Place, turns: Sequence[_Turn], arrivals: Sequence[tuple[float, int, Length]]
) -> None:
    """*arrivals* by time, each of one of *turns*."""
    due_s: float | None = None
    for at_s, number, length in arrivals:
        while due_s is not None and due_s <= at_s:
            due_s = place.move(due_s)
        place.arrive(turns[number], (at_s, length))
        due_s = place.move(at_s)
    while due_s is not None:
        due_s = place.move(due_s)
