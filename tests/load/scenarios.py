"""The scenarios of the gateway benchmark, and one measurement of one of them on one target."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from load.arithmetic import Verdict, median, percentile, ratio
from load.client import GAP_STEP_S, Tally
from load.clients import clients
from load.processes import cpu_s
from load.targets import DIRECT, MODELYARD, Target

VLLM_ROUTER = "vllm-router"
SGLANG_ROUTER = "sglang-router"
# After the load a proxy may still have to write logs and usage: that belongs to its cost, too.
_SETTLE_S = 1.0


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """*tokens* of a stream, 0 for answers in one piece. *cpu_at_most* and *p50_at_most*,
    *p99_at_most* are the targets: our cost by that of the router, where there is one.
    """

    name: str
    title: str
    at_once: int
    tokens: int = 0
    tokens_per_s: float = 0.0
    cpu_at_most: dict[str, float] = {}
    p50_at_most: dict[str, float] = {}
    p99_at_most: dict[str, float] = {}

    @property
    def unit(self) -> str:
        return "token" if self.tokens else "request"

    @property
    def ramp_s(self) -> float:
        """Streams begin spread over the duration of one, so that they end spread, too."""
        return self.tokens / self.tokens_per_s if self.tokens else 0.0

    @property
    def latency(self) -> str:
        return "TTFT" if self.tokens else "latency"


SCENARIOS = (
    Scenario(
        name="streams",
        title="paced streams, 200 at once, 100 tokens/s each, 64 tokens",
        at_once=200,
        tokens=64,
        tokens_per_s=100,
        cpu_at_most={VLLM_ROUTER: 1.0, SGLANG_ROUTER: 0.7},
        p50_at_most={VLLM_ROUTER: 1.2},
        p99_at_most={VLLM_ROUTER: 1.2},
    ),
    Scenario(
        name="calm",
        title="paced streams on a machine with time to spare, 100 at once, 20 tokens/s, 16 tokens",
        at_once=100,
        tokens=16,
        tokens_per_s=20,
        p50_at_most={VLLM_ROUTER: 1.2},
        p99_at_most={VLLM_ROUTER: 1.2},
    ),
    Scenario(
        name="plain",
        title="requests without streaming, 16 at once",
        at_once=16,
        cpu_at_most={VLLM_ROUTER: 1.3, SGLANG_ROUTER: 0.7},
    ),
    Scenario(
        name="single",
        title="requests without streaming, one at a time",
        at_once=1,
        p50_at_most={VLLM_ROUTER: 1.2},
    ),
)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. *cpu_us* is the proxy's CPU time by token or by request; *p50_s* and
    *p99_s* are of the time to the first token, or of the whole answer where it is not streamed.
    """

    scenario: str
    target: str
    round: int
    cpu_us: float
    p50_s: float
    p99_s: float
    gap_p99_s: float
    done: int
    per_s: float
    errors: dict[str, int]
    machine_busy: float  # share of all cores, whoever used them
    client_cpu_s: float


def _load(target: Target, scenario: Scenario, seconds: float, processes: int) -> Tally:
    with clients(
        target,
        at_once=scenario.at_once,
        seconds=seconds,
        tokens=scenario.tokens,
        ramp_s=scenario.ramp_s,
        processes=processes,
    ) as wait:
        return wait()


def measure(
    target: Target, scenario: Scenario, *, number: int, seconds: float, processes: int = 1
) -> Sample:
    """One round *number* of *scenario* on *target*."""
    busy_before, all_before = _machine_ticks()
    cpu_before = cpu_s(target.pid) if target.pid else 0.0
    tally = _load(target, scenario, seconds, processes)
    busy_after, all_after = _machine_ticks()
    time.sleep(_SETTLE_S)
    used_s = cpu_s(target.pid) - cpu_before if target.pid else 0.0
    done = tally.tokens if scenario.tokens else tally.good
    times = tally.first_s if scenario.tokens else tally.whole_s
    return Sample(
        scenario=scenario.name,
        target=target.name,
        round=number,
        cpu_us=used_s / done * 1e6 if done else math.nan,
        p50_s=percentile(times, 50),
        p99_s=percentile(times, 99),
        gap_p99_s=_gap_p99_s(tally),
        done=done,
        per_s=done / tally.wall_s,
        errors=tally.errors,
        machine_busy=(busy_after - busy_before) / max(all_after - all_before, 1),
        client_cpu_s=tally.cpu_s,
    )


def _gap_p99_s(tally: Tally) -> float:
    total = sum(tally.gaps.values())
    seen = 0
    for step in sorted(tally.gaps):
        seen += tally.gaps[step]
        if seen >= 0.99 * total:
            return (step + 1) * GAP_STEP_S
    return math.nan


def _machine_ticks() -> tuple[int, int]:
    """Busy and all ticks of the machine since its start."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    ticks = [int(field) for field in line.split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


class Samples:
    """All measurements of a run, asked by scenario and target."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._by: dict[tuple[str, str], list[Sample]] = {}
        for sample in samples:
            self._by.setdefault((sample.scenario, sample.target), []).append(sample)

    def of(self, scenario: str, target: str) -> list[Sample]:
        return sorted(self._by.get((scenario, target), []), key=lambda sample: sample.round)

    def cpu_us(self, scenario: str, target: str) -> float:
        return median(sample.cpu_us for sample in self.of(scenario, target))

    def added_s(self, scenario: str, target: str, field: str) -> float:
        """Median over the rounds of what the proxy added to the direct way of the same round."""
        pairs = zip(self.of(scenario, target), self.of(scenario, DIRECT), strict=False)
        return median(getattr(ours, field) - getattr(direct, field) for ours, direct in pairs)

    def cpu_ratio(self, scenario: str, other: str) -> float:
        """Median over the rounds of the ratio within one."""
        pairs = zip(self.of(scenario, MODELYARD), self.of(scenario, other), strict=False)
        return median(ratio(ours.cpu_us, theirs.cpu_us) for ours, theirs in pairs)


def verdicts(samples: Samples, scenarios: Sequence[Scenario]) -> list[Verdict]:
    """Every ratio that has a target."""
    found = []
    for scenario in scenarios:
        for other, at_most in scenario.cpu_at_most.items():
            what = f"{scenario.name}: CPU per {scenario.unit} / {other}"
            measured = samples.cpu_ratio(scenario.name, other)
            found.append(Verdict(what=what, ratio=measured, at_most=at_most))
        for field, limits in (("p50_s", scenario.p50_at_most), ("p99_s", scenario.p99_at_most)):
            for other, at_most in limits.items():
                what = f"{scenario.name}: added {scenario.latency} {field[:3]} / {other}"
                ours = samples.added_s(scenario.name, MODELYARD, field)
                theirs = samples.added_s(scenario.name, other, field)
                found.append(Verdict(what=what, ratio=ratio(ours, theirs), at_most=at_most))
    return found
