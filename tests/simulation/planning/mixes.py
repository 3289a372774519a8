"""Fleets and mixes of models to plan for: unlike models, with lengths of production traces."""

from functools import cache
from pathlib import Path

import msgspec
from simulation.routing.trace import read_trace, replayed

from pipelines.planner.demand import Demand, Length, longest, sampled
from pipelines.planner.engine import Arrival
from pipelines.planner.fleet import Fleet, NodeKind
from pipelines.planner.plan import Subject
from pipelines.planner.silicon import Silicon
from pipelines.planner.traces import read
from registry.spec.demand import Slo

_TRACES = Path(__file__).parent.parent / "traces"
_FILES = {
    "code": "azure_code_2023.csv.gz",
    "conv": "azure_conv_2023.csv.gz",
}
# First token and tokens after it, by what is asked: code is completed under the eyes of who types,
# Mooncake's prompts are ten thousand tokens long.
_SLOS = {
    "code": Slo(ttft_s=1.0, tpot_s=0.03),
    "conv": Slo(ttft_s=1.0, tpot_s=0.04),
    "mooncake": Slo(ttft_s=4.0, tpot_s=0.04),
}

FLEETS = {
    "8xH100": Fleet(nodes=(NodeKind(device_model="H100"),)),
    "2x8xH100": Fleet(nodes=(NodeKind(device_model="H100", count=2),)),
    "8xH100+8xL40S+8xA100": Fleet(
        nodes=(
            NodeKind(device_model="H100"),
            NodeKind(device_model="L40S"),
            NodeKind(device_model="A100"),
        )
    ),
}


class Member(msgspec.Struct, frozen=True):
    """A model of a mix, what is asked of it, and how much of that beside the others."""

    model: str
    trace: str
    share: float

    @property
    def name(self) -> str:
        return f"{self.model.rpartition('/')[2]}/{self.trace}"


_THREE = (
    Member("nvidia/Llama-3.1-70B-Instruct-FP8", "code", 1.0),
    Member("openai/gpt-oss-120b", "conv", 2.0),
    Member("meta-llama/Meta-Llama-3.1-8B", "conv", 8.0),
)
_SIX = (
    *_THREE,
    Member("Qwen/Qwen3-32B-FP8", "conv", 1.0),
    Member("Qwen/Qwen3-30B-A3B", "mooncake", 0.5),
    Member("openai/gpt-oss-20b", "code", 6.0),
)
_TWELVE = (
    *_SIX,
    Member("Qwen/Qwen3-235B-A22B-FP8", "conv", 0.5),
    Member("Qwen/Qwen3-8B", "mooncake", 0.5),
    Member("Qwen/Qwen3-8B", "code", 4.0),
    Member("Qwen/Qwen3-32B", "code", 1.0),
    Member("meta-llama/Meta-Llama-3.1-70B", "conv", 0.5),
    Member("Qwen/Qwen3-30B-A3B-FP8", "conv", 4.0),
)
MIXES = {3: _THREE, 6: _SIX, 12: _TWELVE}


@cache
def trace(name: str) -> tuple[Arrival, ...]:
    if name in _FILES:
        return tuple(read(_TRACES / _FILES[name]))
    return tuple(
        Arrival(one.at_s, Length(one.prompt_tokens, one.output_tokens))
        for one in replayed(read_trace(), speed=1.0, seed=0)
    )


@cache
def lengths(name: str) -> tuple[Length, ...]:
    return sampled([arrival.length for arrival in trace(name)])


@cache
def longest_tokens(name: str) -> int:
    return longest(arrival.length for arrival in trace(name))


def subjects(mix: tuple[Member, ...], scale: float) -> list[Subject]:
    """*scale* requests a second for each share of one."""
    return [
        Subject(
            demand=Demand(
                model=member.name,
                rate=scale * member.share,
                lengths=lengths(member.trace),
                longest_tokens=longest_tokens(member.trace),
                slo=_SLOS[member.trace],
            ),
            times_of=Silicon(member.model).times,
        )
        for member in mix
    ]
