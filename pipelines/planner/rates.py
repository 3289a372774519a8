"""How many requests a second a group of workers answers within the SLO: in closed form.

Aggregated workers run steps that carry one token of every answer under way and, while prompts wait,
up to *batched_tokens* of them (chunked prefill). A request waits for its prompt's turn (`queues`),
then for its steps; each answer's time per token follows from how many steps with prompts in them
happen to fall into its life. Prefill workers run prompts only, decode workers answers only; between
them the KV travels.

These are approximations: `rehearsal` runs what is chosen on them, step by step.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from math import ceil, sqrt

import msgspec

from pipelines.planner.demand import Demand, Length
from pipelines.planner.queues import at_most, below, waits_longer
from pipelines.planner.times import StepTimes

SEQUENCES_MAX = 256
UNEVEN = 0.7  # of a Poisson count's deviation that is left when an answer's life averages over it
RATE_MAX = 1e6  # a second: no group of workers does more
_ROUNDS = 40
_MEMO = 20_000  # prompts that are taken anew for every rate that is tried


class Attained(msgspec.Struct, frozen=True):
    """Which share of the requests has its first token in time, and which its others."""

    ttft: float
    tpot: float

    @property
    def both(self) -> float:
        return self.ttft * self.tpot

    @property
    def binding(self) -> str:
        return "ttft" if self.ttft <= self.tpot else "tpot"


NOTHING = Attained(0.0, 0.0)


class Aggregated(msgspec.Struct, frozen=True):
    """*workers* that do both phases."""

    workers: int
    times: StepTimes
    batched_tokens: int

    def attained(self, demand: Demand, rate: float) -> Attained:
        """Of requests at *rate* a second, evenly spread over the workers."""
        slo, times = demand.slo, self.times
        own = rate / self.workers
        context = round(demand.prompt + demand.answer / 2)
        room = _room(times, demand)
        if not room:
            return NOTHING
        settled = self._settled(demand, own, context, room)
        if settled is None:
            return NOTHING
        running, each_s = settled
        crowd = min(room, ceil(running + UNEVEN * sqrt(running)))
        plain_s = times.step_s(0, 0, max(1, crowd), context)
        parts = _mean(ceil(one.prompt / self.batched_tokens) for one in demand.lengths)
        mixed_s = each_s / parts
        spent = _spent(times, demand.lengths, self.batched_tokens, crowd, context)
        ttft = tpot = 0.0
        for length, own_s in zip(demand.lengths, spent.each_s, strict=True):
            slack_s = slo.ttft_s - own_s - times.overhead_s - plain_s / 2
            ttft += 1 - waits_longer(self.workers, rate, each_s, spent.cv2, slack_s)
            tpot += _even(
                length.answer,
                tpot_s=slo.tpot_s,
                plain_s=plain_s,
                mixed_s=mixed_s,
                own=own,
                parts=parts,
            )
        count = len(demand.lengths)
        return Attained(ttft / count, tpot / count)

    def _settled(
        self, demand: Demand, own: float, context: int, room: int
    ) -> tuple[float, float] | None:
        """How many answers are under way in a worker (Little's law on its own mean step), and what
        a prompt takes of it; None where it cannot keep up.
        """
        running = 1.0
        each_s = 0.0
        for _ in range(_ROUNDS):
            sequences = max(1, round(running))
            plain_s = self.times.step_s(0, 0, sequences, context)
            each_s = _each_s(
                self.times,
                demand,
                self.batched_tokens,
                own,
                alone_s=_spent(
                    self.times, demand.lengths, self.batched_tokens, sequences, context
                ).mean_s,
                sequences=sequences,
                context=context,
            )
            busy = own * each_s
            if busy >= 1:
                return None
            # Of a second, *busy* goes to steps with prompts, which give the others a token as well.
            steps = busy / self._mixed_s(demand, sequences, context) + (1 - busy) / plain_s
            found = own * demand.answer / steps
            if found > room:
                return None
            if abs(found - running) < 0.01 * max(1.0, running):
                running = found
                break
            running = (running + found) / 2
        return running, each_s

    def _mixed_s(self, demand: Demand, sequences: int, context: int) -> float:
        part = min(self.batched_tokens, round(demand.prompt))
        return self.times.step_s(part, round(demand.prompt), sequences, context)


class Disaggregated(msgspec.Struct, frozen=True):
    """*prefills* workers for prompts, *decodes* for answers. A KV cache travels at
    *transfer_bytes_s* from each device of one to those of the other.
    """

    prefills: int
    prefill_times: StepTimes
    batched_tokens: int
    decodes: int
    decode_times: StepTimes
    transfer_bytes_s: float

    def attained(self, demand: Demand, rate: float) -> Attained:
        return Attained(self.ttft(demand, rate), self.tpot(demand, rate))

    def ttft(self, demand: Demand, rate: float) -> float:
        """The share whose first token is in time: the wait, the prompt, its KV's way, one step."""
        slo, times = demand.slo, self.prefill_times
        if times.kv_tokens < demand.longest:
            return 0.0
        spent = _spent(times, demand.lengths, self.batched_tokens)
        own = rate / self.prefills
        each_s = _each_s(times, demand, self.batched_tokens, own, alone_s=spent.mean_s)
        last_s = self.decode_times.step_s(0, 0, 1, round(demand.prompt))
        late = 0.0
        for length, own_s in zip(demand.lengths, spent.each_s, strict=True):
            way_s = length.prompt * times.kv_token_bytes / self.transfer_bytes_s
            slack_s = slo.ttft_s - own_s - way_s - times.overhead_s - last_s
            late += waits_longer(self.prefills, rate, each_s, spent.cv2, slack_s)
        return 1 - late / len(demand.lengths)

    def tpot(self, demand: Demand, rate: float) -> float:
        """The share whose other tokens are in time."""
        times = self.decode_times
        context = round(demand.prompt + demand.answer / 2)
        room = _room(times, demand)
        if not room:
            return 0.0
        own = rate / self.decodes
        running = 1.0
        for _ in range(_ROUNDS):
            found = own * demand.answer * times.step_s(0, 0, max(1, round(running)), context)
            if found > room:
                return 0.0
            if abs(found - running) < 0.01 * max(1.0, running):
                break
            running = (running + found) / 2
        most = _most(lambda count: times.step_s(0, 0, count, context), demand.slo.tpot_s, room)
        return below((most + 0.5 - running) / (UNEVEN * sqrt(running))) if most else 0.0


Group = Aggregated | Disaggregated


def rate_within(group: Group, demand: Demand, above: float = 0.0) -> float:
    """The highest rate, a second, at which *demand.share* of its requests are within the SLO; 0
    where none is. *above*: a rate known to be within it.
    """

    def holds(rate: float) -> bool:
        return group.attained(demand, rate).both >= demand.share

    low = above if above > 0 else 1e-4
    return highest(holds, low, max(2 * low, 0.1), part=0.002)


def highest(holds: Callable[[float], bool], low: float, high: float, *, part: float) -> float:
    """The highest rate that *holds*, found from *low* up, first at *high*, to that *part* of it; 0
    where *low* does not.
    """
    if not holds(low):
        return 0.0
    while holds(high) and high < RATE_MAX:
        low, high = high, 2 * high
    while high - low > part * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def prompt_s(
    times: StepTimes, prompt: int, batched_tokens: int, sequences: int = 0, context: int = 0
) -> float:
    """What a prompt takes in steps of its own, beside the answers under way."""
    whole, rest = divmod(prompt, batched_tokens)
    return whole * times.step_s(batched_tokens, prompt, sequences, context) + (
        times.step_s(rest, prompt, sequences, context) if rest else 0.0
    )


class _Spent(msgspec.Struct, frozen=True):
    """What each of several prompts takes, their mean and their squared coefficient of variation."""

    each_s: tuple[float, ...]
    mean_s: float
    cv2: float


@lru_cache(maxsize=_MEMO)
def _spent(
    times: StepTimes,
    lengths: tuple[Length, ...],
    batched_tokens: int,
    sequences: int = 0,
    context: int = 0,
) -> _Spent:
    each_s = [prompt_s(times, one.prompt, batched_tokens, sequences, context) for one in lengths]
    return _Spent(tuple(each_s), _mean(each_s), _cv2(each_s))


def _each_s(
    times: StepTimes,
    demand: Demand,
    batched_tokens: int,
    own: float,
    *,
    alone_s: float,
    sequences: int = 0,
    context: int = 0,
) -> float:
    """What a prompt takes of a worker that is asked *own* times a second: *alone_s* in steps of its
    own, or its part of full ones where many wait.
    """
    full_s = times.step_s(batched_tokens, round(demand.prompt), sequences, context)
    together_s = min(alone_s, full_s * demand.prompt / batched_tokens)
    busy = min(1.0, own * together_s)
    return alone_s + busy * (together_s - alone_s)


def _room(times: StepTimes, demand: Demand) -> int:
    """How many answers a worker has room for at once; 0 where the longest has none."""
    if times.kv_tokens < demand.longest:
        return 0
    return min(SEQUENCES_MAX, times.kv_tokens // max(1, round(demand.prompt + demand.answer)))


def _even(
    answer: int, *, tpot_s: float, plain_s: float, mixed_s: float, own: float, parts: float
) -> float:
    """The chance that an answer's mean step is within *tpot_s*: that few enough prompts of others,
    *parts* steps each, come in its life.
    """
    tokens = max(1, answer - 1)
    if plain_s > tpot_s:
        return 0.0
    if mixed_s <= plain_s:
        return 1.0
    bearable = tokens * (tpot_s - plain_s) / (mixed_s - plain_s)
    return at_most(bearable / parts, own * tokens * tpot_s)


def _most(step_s: Callable[[int], float], within_s: float, room: int) -> int:
    """The most sequences whose step is within."""
    low, high = 0, room
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if step_s(middle) <= within_s else (low, middle - 1)
    return low


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return sum(every) / len(every)


def _cv2(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values) / mean**2 if mean else 0.0
