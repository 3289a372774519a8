"""The autoscaler's own code in a simulation's loop: what it is shown, and what it said.

What it is shown is made of the simulated workers: a snapshot with their phases, what their engines
would count every 5 s, and what gateways would tell of the requests that ended.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from fleets import a_snapshot, a_worker

from pipelines.autoscaler import Autoscaler
from pipelines.autoscaler.sight import TRAFFIC_S
from pipelines.engines.base import EngineMetrics, Sample
from pipelines.measured import SAMPLES_KEPT_S, SCRAPE_EVERY_S
from pipelines.planner.elastic import Seen
from pipelines.topology import expand
from registry.spec import Role
from registry.state import Model, Phase, RoleScale, WorkerPlan
from registry.traffic import SLOT_S, Latencies, Traffic


class Ended(Protocol):
    """A request that was answered: tokens of its prompt and its answer, and its times."""

    prompt: int
    answer: int

    @property
    def ttft_s(self) -> float: ...

    @property
    def tpot_s(self) -> float: ...


class Brain:
    """Of one *model* with one variant, whose roles say what they may be scaled to."""

    every_s = SCRAPE_EVERY_S

    def __init__(self, model: Model) -> None:
        self._autoscaler = Autoscaler()
        self._model = msgspec.structs.replace(model, updated_at=-1e6)  # long ago
        (self._variant,) = model.spec.variants
        self._plans: dict[Role, WorkerPlan] = {
            plan.role: plan for gang in expand(model) for plan in gang
        }
        self._samples: dict[str, list[Sample]] = {}
        self._traffic: list[Traffic] = []
        self.reasons: list[str] = []

    def wanted(
        self, workers: Sequence[Seen], ended: Sequence[Ended], now: float
    ) -> Mapping[Role, int]:
        """New numbers of workers, by role."""
        self._close_slot(ended, now)
        snapshot = a_snapshot(
            models=[self._model], workers=[self._shown(one, now) for one in workers]
        )
        found = self._autoscaler.look(snapshot, self._traffic, self._samples, now)
        for one in found:
            self._note(one.role, one.workers, one.reason, now)
        return {one.role: one.workers for one in found}

    def _shown(self, one: Seen, now: float):
        ready = one.ready_s <= now
        phase = Phase.DRAINING if one.leaves else Phase.READY if ready else Phase.STARTING
        name = f"{one.role}-{one.ordinal}-{one.began_s}"
        if phase is Phase.READY:
            kept = self._samples.setdefault(name, [])
            kept.append(Sample(at=now, metrics=_counts(one)))
            if kept[0].at < now - SAMPLES_KEPT_S:
                del kept[0]
        plan = msgspec.structs.replace(self._plans[one.role], ordinal=one.ordinal)
        return a_worker(plan, phase, id=name, ready_at=one.ready_s if ready else None)

    def _note(self, role: Role, workers: int, reason: str, now: float) -> None:
        others = tuple(one for one in self._model.scales if one.role is not role)
        scale = RoleScale(
            variant=self._variant.name, role=role, workers=workers, reason=reason, at=now
        )
        self._model = msgspec.structs.replace(self._model, scales=(*others, scale))
        self.reasons.append(f"{now:5.0f} s  {role} → {workers}: {reason}")

    def _close_slot(self, ended: Sequence[Ended], now: float) -> None:
        if ended:
            self._traffic.append(
                Traffic(
                    at=now - SLOT_S,
                    gateway="g",
                    model=self._model.name,
                    variant=self._variant.name,
                    revision=self._model.revision,
                    requests=len(ended),
                    prompt_tokens=sum(one.prompt for one in ended),
                    completion_tokens=sum(one.answer for one in ended),
                    ttft=Latencies.of(tuple(one.ttft_s for one in ended)),
                    tpot=Latencies.of(tuple(one.tpot_s for one in ended if one.answer > 1)),
                )
            )
        self._traffic = [row for row in self._traffic if row.at >= now - TRAFFIC_S]


def _counts(one: Seen) -> EngineMetrics:
    return EngineMetrics(
        requests_running=one.running,
        requests_waiting=one.waiting,
        kv_cache_usage=one.kv_usage,
        prompt_tokens=one.prompt_tokens,
        generation_tokens=one.answer_tokens,
    )
