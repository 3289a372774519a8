"""What running workers are by the specs of today: whose, how important, how dispensable."""

from collections.abc import Iterable

import msgspec

from registry.spec import Role
from registry.state import Model, Worker


class Standing(msgspec.Struct, frozen=True):
    """*min_available* by variant and role; a role that the spec no longer has keeps nothing."""

    owner: str
    priority: int
    min_available: dict[tuple[str, Role], int]


class Standings:
    """Of all models. The plan that a worker was started with speaks only where no spec does."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = {model.name: model for model in models}
        self._known: dict[str, Standing] = {}

    def model(self, name: str) -> Model | None:
        return self._models.get(name)

    def of(self, worker: Worker) -> Standing:
        name = worker.plan.model
        standing = self._known.get(name)
        if standing is None:
            standing = self._known[name] = self._find(worker)
        return standing

    def _find(self, worker: Worker) -> Standing:
        model = self._models.get(worker.plan.model)
        if model is None:
            return Standing(worker.plan.owner, worker.plan.priority, {})
        kept = {
            (variant.name, role): role_spec.min_available
            for variant in model.spec.variants
            for role, role_spec in variant.topology.roles()
        }
        return Standing(model.spec.owner, model.spec.priority, kept)
