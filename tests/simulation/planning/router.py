"""The gateway's own choice of a worker, for rehearsals."""

from collections.abc import Sequence
from random import Random

from gateway.routing.endpoint import Endpoint
from gateway.routing.load import Load as Carried
from gateway.routing.pick import least_loaded
from pipelines.planner.engine import Load
from pipelines.planner.rehearsal import Choose
from registry.spec import Role


def chooser(seed: int) -> Choose:
    """`least_loaded`, the default policy: the better of two that are drawn."""
    draw = Random(seed).random
    endpoints: list[Endpoint] = []

    def choose(loads: Sequence[Load]) -> int:
        while len(endpoints) < len(loads):
            endpoints.append(_endpoint(len(endpoints)))
        carried = {}
        for number, load in enumerate(loads):
            one = carried[str(number)] = Carried()
            one.prefill_tokens, one.context_tokens = load.prefill_tokens, load.context_tokens
        return int(least_loaded(endpoints[: len(loads)], carried, draw).worker_id)

    return choose


def _endpoint(number: int) -> Endpoint:
    return Endpoint(
        worker_id=str(number),
        role=Role.UNIFIED,
        revision=1,
        host="127.0.0.1",
        port=9000 + number,
        authority="",
        token="",
        kin=(),
        identity=b"",
    )
