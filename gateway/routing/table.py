"""The routing table: the registry's snapshot turned into what a request needs, once per change.

Pure and immutable. A gateway holds one by reference and swaps it whole, so a request that began
with one table ends with it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from gateway.api.operations import BY_NAME
from gateway.routing.endpoint import Endpoint, endpoint_of, partners
from gateway.routing.split import Serving, among, belonging, shares
from pipelines.engines import ENGINES
from pipelines.engines.base import EVERY_OPERATION, TASK_OPERATIONS, Engine, Pairing
from registry.keys import by_digest
from registry.spec import (
    EngineName,
    Fallback,
    Limits,
    ModelSpec,
    Price,
    Role,
    RoutingPolicy,
    Sticky,
    Task,
    Variant,
)
from registry.state import (
    SLEEPING_PHASES,
    Key,
    KeyKind,
    Model,
    Phase,
    Rollout,
    Snapshot,
    Worker,
)

# A worker whose phase changes rarely gets a longer list than this in a reason.
_PHASES_SHOWN = 6
_RESTING = SLEEPING_PHASES | {Phase.WAKING}
_COMING_UP = frozenset({Phase.ASSIGNED, Phase.PREPARING, Phase.STARTING})


class VariantRow(msgspec.Struct, frozen=True, kw_only=True):
    """A variant of a *revision*, and its ready workers. *weight* is its share of the model's
    traffic; with 0 it is asked only where no other can answer. Of a shadow, *shadow_percent* is how
    much of the traffic it gets copies of. *partners* are the prefill workers
    that can serve each decode worker, by its id: those of the same revision where there are any.

    Where *pairing* is concurrent, neither role generates alone: a request needs a pair. Of its
    *operations*, the *paired_operations* are those that a pair shares.
    """

    name: str
    weight: int
    engine: EngineName
    disaggregated: bool
    bypass_tokens: int
    unified: tuple[Endpoint, ...]
    prefill: tuple[Endpoint, ...]
    decode: tuple[Endpoint, ...]
    partners: Mapping[str, tuple[Endpoint, ...]]
    pairing: Pairing = Pairing.SEQUENTIAL
    operations: frozenset[str] = EVERY_OPERATION
    paired_operations: frozenset[str] = EVERY_OPERATION
    revision: int = 0
    shadow_percent: float = 0.0

    @property
    def servable(self) -> bool:
        return self.weight > 0 and self.has_workers

    @property
    def has_workers(self) -> bool:
        """Whether some of its ready workers could answer, if they were asked."""
        return bool(self.unified or self._halves_serve)

    @property
    def _halves_serve(self) -> bool:
        if self.pairing is Pairing.CONCURRENT:
            return any(self.partners.values())
        return bool(self.decode or self.prefill)


Rows = tuple[VariantRow, ...]


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A declared model. *variants* are the servable ones, while it rolls out those of two
    revisions; with none of them *reason* says why. With some, *reason* says what is missing, or is
    empty. *operations* are what the variants answer when they are served, all together. *shadows*
    get copies of its requests. Where workers sleep or wake up, or come up only because somebody
    asks, a request that finds no other is held for *wake_s*; else that is 0.
    """

    name: str
    created_at: float
    policy: RoutingPolicy
    limits: Limits
    variants: tuple[VariantRow, ...]
    reason: str
    task: Task = Task.GENERATE
    operations: frozenset[str] = EVERY_OPERATION
    price: Price = Price()
    sticky: Sticky = Sticky.NONE
    shadows: tuple[VariantRow, ...] = ()
    fallback: Fallback = Fallback()
    wake_s: float = 0.0


class RoutingTable(msgspec.Struct, frozen=True, kw_only=True):
    """*keys* are the unrevoked inference keys by digest, of the secret before a rotation too; they
    may have expired. *phases* counts the live workers by model, variant, role and phase.
    """

    version: int
    models: Mapping[str, ModelRow]
    keys: Mapping[bytes, Key]
    body_bytes_max: int
    phases: Mapping[tuple[str, str, str, str], int] = {}

    def model(self, name: str, key: Key) -> ModelRow | None:
        """The row of *name*, if *key* may see it."""
        if key.models and name not in key.models:
            return None
        return self.models.get(name)

    def models_of(self, key: Key) -> tuple[ModelRow, ...]:
        if not key.models:
            return tuple(self.models.values())
        return tuple(row for name, row in self.models.items() if name in key.models)

    def endpoints(self) -> Iterable[Endpoint]:
        """Each worker's once, also where two revisions share it."""
        return self._by_id().values()

    def worker_ids(self) -> frozenset[str]:
        return frozenset(self._by_id())

    def _by_id(self) -> dict[str, Endpoint]:
        return {
            endpoint.worker_id: endpoint
            for model in self.models.values()
            for variant in (*model.variants, *model.shadows)
            for endpoint in (*variant.unified, *variant.prefill, *variant.decode)
        }


# Before the first snapshot nothing is known, and version -1 says so.
EMPTY_TABLE = RoutingTable(version=-1, models={}, keys={}, body_bytes_max=Limits().body_bytes)


def build_table(snapshot: Snapshot) -> RoutingTable:
    workers: dict[str, list[Worker]] = {}
    for worker in snapshot.workers:
        workers.setdefault(worker.plan.model, []).append(worker)
    models = {
        model.name: model_row(model, workers.get(model.name, []))
        for model in sorted(snapshot.models, key=lambda model: model.name)
        if not model.deleted
    }
    keys = by_digest(snapshot.keys, KeyKind.INFERENCE)
    return RoutingTable(
        version=snapshot.version,
        models=models,
        keys=keys,
        body_bytes_max=max(
            (row.limits.body_bytes for row in models.values()), default=Limits().body_bytes
        ),
        phases=Counter(
            (worker.plan.model, worker.plan.variant, str(worker.plan.role), str(worker.phase))
            for worker in snapshot.workers
        ),
    )


def model_row(model: Model, workers: list[Worker]) -> ModelRow:
    """*workers* are the live ones of *model*."""
    task = model.spec.task
    rollout = model.rollout
    if rollout is None or not rollout.is_active:
        rows = _variant_rows(model.spec, model.revision, workers)
        servable = _servable(rows)
    else:
        rows, servable = _split_rows(model, rollout, workers)
    return ModelRow(
        name=model.name,
        created_at=model.created_at,
        policy=model.spec.routing.policy,
        limits=model.spec.limits,
        variants=servable,
        reason=_shortfall(servable) if servable else _why_none(model, workers),
        task=task,
        operations=frozenset[str]().union(*(row.operations for row in rows)),
        price=model.spec.price,
        sticky=model.spec.routing.sticky,
        shadows=_shadows(model.spec, rows),
        fallback=model.spec.fallback,
        wake_s=model.spec.idle.wake_s if _wakes(model.spec, workers) else 0.0,
    )


def _wakes(spec: ModelSpec, workers: list[Worker]) -> bool:
    on_demand = spec.idle.after_s > 0 or spec.pool != ""
    return any(
        worker.phase in _RESTING
        or (worker.phase in _COMING_UP and (on_demand or worker.turned_at > 0))
        for worker in workers
    )


def _split_rows(model: Model, rollout: Rollout, workers: list[Worker]) -> tuple[Rows, Rows]:
    """The rows of both revisions, and the servable ones of them with their parts of the traffic.
    Where one revision cannot serve, the other one has it all. Where the rollout superseded another
    one, what that one had brought stands in for the old revision.
    """
    parts = belonging(model, rollout, workers)
    old = _variant_rows(rollout.base, rollout.from_revision, parts.old)
    new = _variant_rows(model.spec, model.revision, parts.new)
    between = _rows_between(model, rollout, parts.neither)
    rows = (*old, *between, *new)
    serving_old = _with_stand_ins(rollout.base, _servable(old), _servable(between))
    serving_new = _servable(new)
    if not serving_old or not serving_new:
        return rows, serving_old or serving_new
    serving = (*serving_old, *serving_new)
    old_weights, new_weights = shares(
        [row.weight for row in serving_old], [row.weight for row in serving_new], rollout.percent
    )
    weighted = zip(serving, (*old_weights, *new_weights), strict=True)
    return rows, tuple(msgspec.structs.replace(row, weight=weight) for row, weight in weighted)


def _with_stand_ins(base: ModelSpec, old: Rows, between: Rows) -> Rows:
    if not between:
        return old
    weights = {variant.name: variant.weight for variant in base.variants}
    of_old, of_between = among(weights, list(map(_counted, old)), list(map(_counted, between)))
    weighted = zip((*old, *between), (*of_old, *of_between), strict=True)
    return tuple(msgspec.structs.replace(row, weight=weight) for row, weight in weighted)


def _counted(row: VariantRow) -> Serving:
    return Serving(row.name, len(row.unified) + (len(row.decode) or len(row.prefill)))


def _rows_between(model: Model, rollout: Rollout, workers: list[Worker]) -> Rows:
    """By what they were started with, as no spec at hand has them; the weight of a variant that is
    known by its name says whether it gets traffic at all.
    """
    weights = {v.name: v.weight for spec in (model.spec, rollout.base) for v in spec.variants}
    bypass = {v.name: v.topology.bypass_tokens for v in rollout.base.variants}
    kinds: dict[tuple[int, str, EngineName], list[Worker]] = {}
    for worker in workers:
        plan = worker.plan
        kinds.setdefault((plan.revision, plan.variant, plan.engine), []).append(worker)
    return tuple(
        _row(
            _Form(
                name=name,
                weight=weights.get(name, 1),
                engine=engine,
                disaggregated=any(worker.plan.role is not Role.UNIFIED for worker in mine),
                bypass_tokens=bypass.get(name, 0),
            ),
            revision,
            mine,
            model.spec.task,
        )
        for (revision, name, engine), mine in kinds.items()
    )


def _shadows(spec: ModelSpec, rows: Iterable[VariantRow]) -> Rows:
    """Those that *spec* has, of the newest revision that has workers for it; *rows* are of the old
    one first.
    """
    percents = {variant.name: variant.shadow_percent for variant in spec.variants}
    found = {row.name: row for row in rows if percents.get(row.name) and row.has_workers}
    return tuple(
        msgspec.structs.replace(row, weight=0, shadow_percent=percents[name])
        for name, row in found.items()
    )


def _variant_rows(spec: ModelSpec, revision: int, workers: list[Worker]) -> Rows:
    return tuple(_variant_row(variant, revision, workers, spec.task) for variant in spec.variants)


def _servable(rows: Rows) -> Rows:
    return tuple(row for row in rows if row.servable)


def _variant_row(variant: Variant, revision: int, workers: list[Worker], task: Task) -> VariantRow:
    mine = [
        worker
        for worker in workers
        if worker.plan.variant == variant.name and worker.plan.engine == variant.engine
    ]
    form = _Form(
        name=variant.name,
        weight=variant.weight,
        engine=variant.engine,
        disaggregated=variant.topology.is_disaggregated,
        bypass_tokens=variant.topology.bypass_tokens,
    )
    return _row(form, revision, mine, task)


class _Form(msgspec.Struct, frozen=True, kw_only=True):
    """What a row has of its spec."""

    name: str
    weight: int
    engine: EngineName
    disaggregated: bool
    bypass_tokens: int


def _row(form: _Form, revision: int, workers: list[Worker], task: Task) -> VariantRow:
    ready: dict[Role, list[Endpoint]] = {role: [] for role in Role}
    for worker in workers:
        endpoint = endpoint_of(worker, revision)
        if endpoint is not None:
            ready[worker.plan.role].append(endpoint)
    engine = ENGINES[form.engine]
    apart = form.disaggregated and engine.pairing is Pairing.CONCURRENT
    return VariantRow(
        name=form.name,
        weight=form.weight,
        engine=form.engine,
        disaggregated=form.disaggregated,
        bypass_tokens=form.bypass_tokens,
        unified=tuple(ready[Role.UNIFIED]),
        prefill=tuple(ready[Role.PREFILL]),
        decode=tuple(ready[Role.DECODE]),
        partners={
            decode.worker_id: partners(decode, ready[Role.PREFILL]) for decode in ready[Role.DECODE]
        },
        pairing=engine.pairing,
        operations=TASK_OPERATIONS[task] & _answered(engine, apart=apart),
        paired_operations=engine.paired_operations,
        revision=revision,
    )


def _answered(engine: Engine, *, apart: bool) -> frozenset[str]:
    """*apart*: neither role generates alone. What generates nothing any worker answers."""
    if not apart:
        return engine.operations
    lone = {name for name in engine.operations if not BY_NAME[name].generates}
    return engine.paired_operations | lone


def _shortfall(variants: Iterable[VariantRow]) -> str:
    """What a servable model still lacks."""
    for row in variants:
        if not row.weight:
            continue
        if row.disaggregated and row.decode and not row.prefill:
            return f"degraded: variant {row.name} has no prefill worker, decode serves alone"
        if row.disaggregated and row.prefill and not row.decode:
            return f"degraded: variant {row.name} has no decode worker, prefill serves alone"
    return ""


def _why_none(model: Model, workers: list[Worker]) -> str:
    if model.condition:
        return model.condition
    if not workers:
        return "no worker is placed yet"
    counts = Counter((worker.plan.role, worker.phase) for worker in workers)
    shown = [f"{n} {role} {phase}" for (role, phase), n in counts.most_common(_PHASES_SHOWN)]
    return f"no worker can answer yet: {', '.join(shown)}"
