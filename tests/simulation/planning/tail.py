"""The long tail: forty models of Zipf popularity, for a worker group each, and for pools."""

from collections.abc import Callable

import msgspec
from planner_world import MEMORY_GIB
from simulation.planning.mixes import Member, lengths
from simulation.planning.pool_rules import PoolSeen, pool_by_rules

from pipelines.planner.demand import Demand
from pipelines.planner.fleet import Fleet, NodeKind
from pipelines.planner.options import Option, options
from pipelines.planner.plan import OVER, Plan, Rehearsals, Subject, choose, pooled_of
from pipelines.planner.silicon import Silicon
from registry.spec.demand import Slo

MODELS = 40
OTHER_SEED = 101  # not the one that the plan was rehearsed with
EXPONENT = 1.2  # of the popularity: the tenth model is asked a sixteenth as often as the first
TOTAL_RATE = 5.0  # requests a second of all
SLO = Slo(ttft_s=10.0, tpot_s=0.05)  # a switch takes 4 to 7 s; as in `make bench-pooling`
FLEET = Fleet(
    nodes=(NodeKind(device_model="H100", count=8), NodeKind(device_model="L40S", count=4))
)
_SIZES = (  # in turns by rank, so that neither the popular nor the rare are all of a size
    "Qwen/Qwen3-8B",
    "meta-llama/Meta-Llama-3.1-8B",
    "openai/gpt-oss-20b",
    "Qwen/Qwen3-32B-FP8",
    "Qwen/Qwen3-30B-A3B-FP8",
)


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """Devices that serve all forty in full."""

    dedicated: int  # an aggregated group each, on H100s
    mixed: int  # any topology each, on any device
    pooled: int  # the same, and pools
    places: int
    members: int
    pools: tuple[PoolSeen, ...]
    kinds: dict[str, int]
    served: float

    @property
    def saved(self) -> float:
        return 1 - self.pooled / self.dedicated


def tail(seed: int, tell: Callable[[str], None]) -> Tail:
    subjects = [_subject(rank) for rank in range(MODELS)]
    demands = [subject.demand for subject in subjects]
    every: list[Option] = []
    for subject in subjects:
        tell(f"shapes of {subject.demand.model}")
        every += options(subject.demand, subject.times_of, FLEET, engines=subject.engines)
    rehearsals = Rehearsals(seed, over=OVER)

    def planned(offered: list[Option], *, pools: bool) -> Plan:
        inside = [one for s in subjects for one in pooled_of(s, FLEET)] if pools else []
        return choose(
            demands, offered, FLEET, rehearsals, pooled=inside, seed=seed, with_alternatives=False
        )

    tell("dedicated")
    alike = [one for one in every if one.device == "H100" and not one.is_disaggregated]
    dedicated = planned(alike, pools=False)
    tell("mixed")
    mixed = planned(every, pools=False)
    tell("pooled")
    pooled = planned(every, pools=True)
    tell("pools by the controller's rules")
    by_model = {demand.model: demand for demand in demands}
    times_of = {subject.demand.model: subject.times_of for subject in subjects}
    seen = tuple(
        pool_by_rules(pool, by_model, times_of, device_gib=MEMORY_GIB[pool.device], seed=OTHER_SEED)
        for pool in pooled.pools
    )
    return Tail(
        dedicated=dedicated.devices,
        mixed=mixed.devices,
        pooled=pooled.devices,
        places=sum(pool.places for pool in pooled.pools),
        members=sum(len(pool.members) for pool in pooled.pools),
        pools=seen,
        kinds=dict(pooled.devices_by_model),
        served=min(
            sum(choice.served for choice in made.choices) / MODELS
            for made in (dedicated, mixed, pooled)
        ),
    )


def _subject(rank: int) -> Subject:
    weights = [1 / (n + 1) ** EXPONENT for n in range(MODELS)]
    model = _SIZES[rank % len(_SIZES)]
    member = Member(model, "conv", weights[rank])
    return Subject(
        demand=Demand(
            model=f"{rank:02}-{model.rpartition('/')[2]}",
            rate=TOTAL_RATE * weights[rank] / sum(weights),
            lengths=lengths(member.trace),
            slo=SLO,
        ),
        times_of=Silicon(model).times,
        engines=("vllm",),
    )
