"""/readyz: which declared models can answer, asleep or not, for load balancers and people."""

import msgspec

from gateway.routing.table import RoutingTable


class ModelReadiness(msgspec.Struct, frozen=True):
    name: str
    ready: bool
    reason: str  # why not, or what is missing though it answers


class Readiness(msgspec.Struct, frozen=True):
    """*reason* is about the gateway itself; a model's own is with the model."""

    ready: bool
    reason: str
    models: tuple[ModelReadiness, ...]


def readiness(table: RoutingTable) -> Readiness:
    """Ready means: every declared model can answer."""
    if table.version < 0:
        return Readiness(ready=False, reason="the registry has not been read yet", models=())
    models = tuple(
        ModelReadiness(row.name, bool(row.variants) or row.wake_s > 0, row.reason)
        for row in table.models.values()
    )
    return Readiness(ready=all(model.ready for model in models), reason="", models=models)
