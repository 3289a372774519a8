"""Who is measured, and what of its spec the answer changes. Pure."""

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from pipelines.engines import ENGINES
from pipelines.engines.base import Pairing
from registry.spec import Aggregated, Disaggregated, ModelSpec, Role, RoleSpec, Task, Variant
from registry.state import Model, Phase, Snapshot, Worker


class TuneError(Exception):
    """It cannot be measured; the message says why, and what to do."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """*workers* are the ready ones of *variant* in *role*, by their ordinals."""

    model: Model
    variant: Variant
    role: Role
    workers: tuple[Worker, ...]

    @property
    def flag(self) -> str:
        return ENGINES[self.variant.engine].batch_flag

    @property
    def bound(self) -> int:
        """The batched tokens that its spec allows; 0: as many as its engine does by itself."""
        value = _role_spec(self.variant).args.get(self.flag, 0)
        return int(value) if isinstance(value, int) else 0


def subject_of(
    snapshot: Snapshot, name: str, variant_name: str, role_of: Callable[[Variant], Role]
) -> Subject:
    """*role_of* says whom of a variant it is about. Raises TuneError, as that may."""
    model = next((one for one in snapshot.models if one.name == name and not one.deleted), None)
    if model is None:
        raise TuneError(f"no model named {name!r}")
    variant = _chosen(model.spec, variant_name)
    if model.spec.task is not Task.GENERATE:
        raise TuneError(f"{name} is for {model.spec.task}: it has no first token to wait for")
    role = role_of(variant)
    workers = sorted(
        (
            worker
            for worker in snapshot.workers
            if (worker.plan.model, worker.plan.variant) == (name, variant.name)
            and worker.plan.role is role
            and worker.phase is Phase.READY
        ),
        key=lambda worker: worker.plan.ordinal,
    )
    if not workers:
        raise TuneError(f"no {role} worker of {name}, variant {variant.name}, is ready")
    return Subject(model=model, variant=variant, role=role, workers=tuple(workers))


def _chosen(spec: ModelSpec, name: str) -> Variant:
    names = ", ".join(variant.name for variant in spec.variants)
    if not name and len(spec.variants) > 1:
        raise TuneError(f"{spec.name} has several variants, name one of {names}")
    for variant in spec.variants:
        if not name or variant.name == name:
            return variant
    raise TuneError(f"{spec.name} has no variant {name[:80]!r}, allowed is one of {names}")


def prefilling(variant: Variant) -> Role:
    """Whose prefill is measured. Raises TuneError."""
    if isinstance(variant.topology, Aggregated):
        return Role.UNIFIED
    if not isinstance(variant.topology, Disaggregated):
        raise TuneError(f"{variant.name} is external: its flags are set by whoever runs it")
    if ENGINES[variant.engine].pairing is Pairing.CONCURRENT:
        raise TuneError(
            f"a prefill worker of {variant.engine} answers only together with decode: measure an "
            "aggregated variant of the same model and devices, and set its "
            f"{ENGINES[variant.engine].batch_flag} here, too"
        )
    return Role.PREFILL


def _role_spec(variant: Variant) -> RoleSpec:
    if isinstance(variant.topology, Disaggregated):
        return variant.topology.prefill
    assert isinstance(variant.topology, Aggregated), variant.name
    return variant.topology


def with_batch(subject: Subject, tokens: int) -> ModelSpec:
    """The model's spec with that bound for the role that was measured."""
    variant, spec = subject.variant, subject.model.spec
    role = _role_spec(variant)
    args = ENGINES[variant.engine].batch_args(role.args, tokens)
    changed = replace(role, args=args)
    topology = variant.topology
    if isinstance(topology, Disaggregated):
        changed = replace(topology, prefill=changed)  # type: ignore[assignment]
    return replace(
        spec,
        variants=tuple(
            replace(one, topology=changed) if one is variant else one for one in spec.variants
        ),
    )
