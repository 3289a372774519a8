"""What wakes and sleeps as one: the pair workers of a variant together, any other worker alone."""

from collections import defaultdict
from collections.abc import Mapping

import msgspec

from registry.spec import Role
from registry.state import LEAVING_PHASES, Model, Phase, Snapshot, Worker, WorkerPlan

UP_PHASES = frozenset({Phase.ASSIGNED, Phase.PREPARING, Phase.STARTING, Phase.WAKING, Phase.READY})
DOWN_PHASES = frozenset({Phase.ASLEEP, Phase.FALLING_ASLEEP})


Part = tuple[str, str, Role]  # a role of a variant of a model


def part_of(plan: WorkerPlan) -> Part:
    return plan.slot[:3]


class Unit(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Live workers that stay: those that leave or depart are none of it."""

    model: Model
    workers: tuple[Worker, ...]

    @property
    def name(self) -> str:
        return self.workers[0].id

    @property
    def pool(self) -> str:
        return self.model.spec.pool

    @property
    def is_rolled_out(self) -> bool:
        """Its model is under way to another revision."""
        return self.model.rollout is not None and self.model.rollout.is_active

    @property
    def answers(self) -> bool:
        """Whether clients get its answers: those of a shadow reach nobody."""
        name = self.workers[0].plan.variant
        return not any(v.shadow_percent for v in self.model.spec.variants if v.name == name)

    @property
    def up(self) -> tuple[Worker, ...]:
        return tuple(w for w in self.workers if w.phase in UP_PHASES)

    @property
    def ready(self) -> tuple[Worker, ...]:
        return tuple(w for w in self.workers if w.phase is Phase.READY)

    @property
    def asleep(self) -> tuple[Worker, ...]:
        return tuple(w for w in self.workers if w.phase is Phase.ASLEEP)

    @property
    def is_up(self) -> bool:
        """It serves, or will once it is started: each of its roles does."""
        return {w.plan.role for w in self.up} == {w.plan.role for w in self.workers}

    @property
    def is_down(self) -> bool:
        """It sleeps, in whole or with a part that the rest is useless without."""
        return not self.is_up and any(w.phase in DOWN_PHASES for w in self.workers)

    @property
    def created_at(self) -> float:
        """When the last of it was placed."""
        return max(w.created_at for w in self.workers)

    @property
    def ready_at(self) -> float:
        """When the last of its ready workers became so; 0 where none is."""
        return max((w.ready_at or 0.0 for w in self.ready), default=0.0)


def units(snapshot: Snapshot) -> dict[str, list[Unit]]:
    """By model, those that take traffic first. External workers are not ours to send to sleep."""
    models = {model.name: model for model in snapshot.models if not model.deleted}
    found: dict[object, list[Worker]] = defaultdict(list)
    for worker in sorted(snapshot.workers, key=lambda w: (w.plan.slot, w.id)):
        plan = worker.plan
        gone = worker.departing or worker.phase in LEAVING_PHASES
        if gone or plan.external is not None or plan.model not in models:
            continue
        alone = plan.role is Role.UNIFIED
        key = worker.id if alone else (plan.model, plan.variant, plan.revision)
        found[key].append(worker)
    by_model: dict[str, list[Unit]] = defaultdict(list)
    for workers in found.values():
        model = models[workers[0].plan.model]
        by_model[model.name].append(Unit(model=model, workers=tuple(workers)))
    for model_name, mine in by_model.items():
        weights = {variant.name: variant.weight for variant in models[model_name].spec.variants}
        mine.sort(key=lambda unit: _heaviest_first(unit, weights))
    return by_model


def _heaviest_first(unit: Unit, weights: Mapping[str, int]) -> tuple[int, object]:
    plan = unit.workers[0].plan
    return -weights.get(plan.variant, 0), (plan.slot, unit.name)
