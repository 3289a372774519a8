"""Whether the new revision does as well as the old one, by the traffic of both. Pure."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from registry.spec import Gate, ModelSpec
from registry.state import Rollout
from registry.traffic import Latencies, StepTraffic

# So much more is nothing that anybody notices, however many times the old one's it is.
TTFT_NOISE_S = 0.01
TPOT_NOISE_S = 0.002


class Outcome(StrEnum):
    PASSED = "passed"
    WAITS = "waits"  # too early to say
    FAILED = "failed"


class Verdict(msgspec.Struct, frozen=True):
    outcome: Outcome
    why: str = ""  # a sentence; "" when it passed


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one revision."""

    requests: int = 0
    errors: int = 0
    ttft: Latencies = Latencies()
    tpot: Latencies = Latencies()

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


def judge(
    gate: Gate, rollout: Rollout, newest: ModelSpec, traffic: Iterable[StepTraffic], now: float
) -> Verdict:
    """By the *traffic* of the rollout's step. Errors are told as soon as there are
    enough requests; speed, which is worse with cold caches, not before the gate's time is over.
    *newest* is the spec of the new revision.
    """
    old, new = seen(rollout, newest, [row for row in traffic if row.since == rollout.step_at])
    enough = new.requests >= gate.requests_min
    if enough and new.error_rate > old.error_rate + gate.error_rate_max:
        return Verdict(
            Outcome.FAILED,
            f"{new.error_rate:.1%} of its requests fail ({old.error_rate:.1%} of the old "
            f"revision's; allowed are {gate.error_rate_max:.1%} more)",
        )
    if now < rollout.step_at + gate.watch_s:
        return Verdict(Outcome.WAITS, f"watches the gate for {gate.watch_s:g} s")
    if not enough:
        return Verdict(
            Outcome.WAITS, f"watches the gate: fewer than {gate.requests_min} requests so far"
        )
    for name, mine, before, ratio_max, noise_s in (
        ("TTFT", new.ttft, old.ttft, gate.ttft_ratio_max, TTFT_NOISE_S),
        ("TPOT", new.tpot, old.tpot, gate.tpot_ratio_max, TPOT_NOISE_S),
    ):
        # Where either revision has too few values to say, nothing is held against it.
        if min(mine.total, before.total) >= gate.requests_min:
            slow = _slower(mine, before, ratio_max, noise_s)
            if slow:
                return Verdict(Outcome.FAILED, f"its median {name} {slow}")
    return Verdict(Outcome.PASSED)


def seen(rollout: Rollout, newest: ModelSpec, traffic: Iterable[StepTraffic]) -> tuple[Seen, Seen]:
    """What the old and the new revision did, for clients: the copies that shadows got are told
    under one revision alone, however they went.
    """
    rows = tuple(traffic)
    return (
        _sum(rows, rollout.from_revision, rollout.base),
        _sum(rows, rollout.to_revision, newest),
    )


def _slower(mine: Latencies, before: Latencies, ratio_max: float, noise_s: float) -> str:
    """Why its median is too long, or ""."""
    mine_s, before_s = mine.quantile_s(0.5), before.quantile_s(0.5)
    if mine_s <= max(before_s * ratio_max, before_s + noise_s):
        return ""
    return (
        f"is {mine_s * 1000:.0f} ms, {mine_s / before_s:.1f} times the old revision's (allowed are "
        f"{ratio_max:g} times)"
    )


def _sum(rows: Iterable[StepTraffic], revision: int, spec: ModelSpec) -> Seen:
    shadows = {variant.name for variant in spec.variants if variant.shadow_percent}
    total = Seen()
    for row in rows:
        if row.revision != revision or row.variant in shadows:
            continue
        total = Seen(
            requests=total.requests + row.requests,
            errors=total.errors + row.errors,
            ttft=total.ttft + row.ttft,
            tpot=total.tpot + row.tpot,
        )
    return total
