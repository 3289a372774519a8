"""A planned pool under the controller's own rules: placed by the scheduler, woken and put to sleep
by `pipelines.awake`, in the engine of the pooling simulation.
"""

from collections.abc import Iterable, Mapping
from random import Random
from statistics import fmean

import msgspec
from simulation.azure import Arrival
from simulation.pooling.catalog import DISK_BYTES_S, START_S, Served
from simulation.pooling.engine import Request
from simulation.pooling.fleets import Pooled as Fleet
from simulation.pooling.fleets import Sleeps, replay

from pipelines.planner.demand import Demand
from pipelines.planner.options import TimesOf
from pipelines.planner.pools import AWAKE_MIN_S, Pooled, rehearse_pool
from pipelines.planner.solve import Pool
from pipelines.planner.specs import claim_gib, held_asleep_bytes, overcommit
from pipelines.planner.times import StepTimes

ONCE_S = 30.0  # between two that are asked for the first time, after which all have been started
HOURS = 1.0


class PoolSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The shares of requests whose first token came in time, the mean over members and the least:
    by the rehearsal, and by the controller's rules; *moves* to another device in an hour.
    """

    places: int
    members: int
    rehearsed: float
    rehearsed_least: float
    by_rules: float
    by_rules_least: float
    switches_per_hour: float
    moves_per_hour: float


class PlannedSize:
    """What the pooling simulation asks of a model's size, of step times."""

    def __init__(self, member: Pooled, demand: Demand, times: StepTimes, claim_gib: int) -> None:
        self.claim_gib = claim_gib
        self.wake_s = member.wake_s
        self.prefill_tokens_s = demand.prompt / member.first_s
        self.copy_s = member.falls_s
        self.start_s = START_S + times.weight_bytes / DISK_BYTES_S
        self._times = times

    def step_s(self, running: int, context_tokens: float) -> float:
        return self._times.step_s(0, 0, running, round(context_tokens))


def pool_by_rules(
    pool: Pool,
    demands: Mapping[str, Demand],
    times_of: Mapping[str, TimesOf],
    *,
    device_gib: int,
    seed: int,
    hours: float = HOURS,
) -> PoolSeen:
    """*pool* as its specs and `pools set` have it, on devices of its own."""
    rehearsed = rehearse_pool(pool.members, demands, pool.places, seed=seed).share
    served = [_served(one, pool, demands[one.model], times_of[one.model]) for one in pool.members]
    fleet = Fleet(
        served,
        pool.places,
        sleeps=Sleeps(max(map(held_asleep_bytes, pool.members)), stop=False),
        awake_min_s=AWAKE_MIN_S,
        overcommit=overcommit(pool),
        device_gib=device_gib,
        ttft_s=min(demands[one.model].slo.ttft_s for one in pool.members),
    )
    line = _requests(pool, demands, seed, hours)
    replay(line, fleet)
    counted = [one for one in line if one.at >= ONCE_S * len(served)]
    shares = []
    for member in pool.members:
        waits = [one.ttft_s for one in counted if one.model == member.model]
        ttft_s = demands[member.model].slo.ttft_s
        shares.append(sum(wait <= ttft_s for wait in waits) / max(1, len(waits)))
    return PoolSeen(
        places=pool.places,
        members=len(pool.members),
        rehearsed=_mean(rehearsed.values()),
        rehearsed_least=min(rehearsed.values()),
        by_rules=_mean(shares),
        by_rules_least=min(shares),
        switches_per_hour=round(fleet.switches / hours, 1),
        moves_per_hour=round(fleet.moves / hours, 1),
    )


def _served(member: Pooled, pool: Pool, demand: Demand, times_of: TimesOf) -> Served:
    times = times_of(member.worker)
    size = PlannedSize(member, demand, times, claim_gib(member, pool))
    return Served(member.model, size, 0.0)  # type: ignore[arg-type]


def _requests(pool: Pool, demands: Mapping[str, Demand], seed: int, hours: float) -> list[Request]:
    """Once each, so that all have been started; then by chance, as in the rehearsal."""
    draw = Random(seed)
    begin_s = ONCE_S * len(pool.members)
    found = []
    for number, member in enumerate(pool.members):
        demand = demands[member.model]
        at_s = ONCE_S * number
        while at_s < begin_s + hours * 3600:
            length = draw.choice(demand.lengths)
            found.append(Request(Arrival(at_s, length.prompt, length.answer), member.model))
            at_s = max(at_s, begin_s) + draw.expovariate(demand.rate)
    return sorted(found, key=lambda one: (one.at, one.model))


def _mean(shares: Iterable[float]) -> float:
    return round(fmean(shares), 4)
