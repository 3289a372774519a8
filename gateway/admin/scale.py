"""A spec with other worker counts. Pure.

An autoscaled role begins anew with the count, and its load leads on from there.
"""

from msgspec.structs import replace

from gateway.admin.bodies import ScaleBody
from registry.errors import SpecError
from registry.spec import Aggregated, Disaggregated, External, ModelSpec, Role, RoleSpec, Variant


def scaled(spec: ModelSpec, wish: ScaleBody) -> ModelSpec:
    """*spec* with the counts of *wish*. Raises SpecError naming the field of the wish."""
    chosen = _choose(spec, wish.variant)
    if wish.workers is None and wish.prefill is None and wish.decode is None:
        raise SpecError("workers", "nothing to scale: give workers, or prefill and decode")
    topology = chosen.topology
    if isinstance(topology, External):
        raise SpecError(
            "variant", f"{chosen.name!r} is external: apply a spec that names other workers"
        )
    if isinstance(topology, Aggregated):
        changed: Aggregated | Disaggregated = _aggregated(chosen, topology, wish)
    else:
        changed = _disaggregated(chosen, topology, wish)
    variants = tuple(
        replace(variant, topology=changed) if variant is chosen else variant
        for variant in spec.variants
    )
    return replace(spec, variants=variants)


def _choose(spec: ModelSpec, name: str) -> Variant:
    names = ", ".join(variant.name for variant in spec.variants)
    if not name and len(spec.variants) > 1:
        raise SpecError("variant", f"{spec.name!r} has several, name one of {names}")
    for variant in spec.variants:
        if not name or variant.name == name:
            return variant
    raise SpecError("variant", f"is {name[:80]!r}, allowed is one of {names}")


def _aggregated(variant: Variant, topology: Aggregated, wish: ScaleBody) -> Aggregated:
    for field in ("prefill", "decode"):
        if getattr(wish, field) is not None:
            raise SpecError(field, f"variant {variant.name!r} is aggregated: scale its workers")
    assert wish.workers is not None
    _check_bounds("workers", topology, wish.workers)
    return replace(topology, workers=wish.workers)


def _disaggregated(variant: Variant, topology: Disaggregated, wish: ScaleBody) -> Disaggregated:
    if wish.workers is not None:
        raise SpecError(
            "workers", f"variant {variant.name!r} is disaggregated: scale its prefill and decode"
        )
    return replace(
        topology,
        prefill=_sized("prefill", topology.prefill, wish.prefill),
        decode=_sized("decode", topology.decode, wish.decode),
    )


def _sized(field: str, role: RoleSpec, workers: int | None) -> RoleSpec:
    if workers is None:
        return role
    _check_bounds(field, role, workers)
    return replace(role, workers=workers)


def unscaled(spec: ModelSpec, wish: ScaleBody) -> tuple[tuple[str, Role], ...]:
    """The autoscaled roles that *wish* names: what their load asked for until now is void."""
    chosen = _choose(spec, wish.variant)
    named = {
        Role.UNIFIED: wish.workers,
        Role.PREFILL: wish.prefill,
        Role.DECODE: wish.decode,
    }
    return tuple(
        (chosen.name, role)
        for role, role_spec in chosen.topology.roles()
        if role_spec.autoscale is not None and named[role] is not None
    )


def _check_bounds(field: str, role: RoleSpec, workers: int) -> None:
    bounds = role.autoscale
    if bounds is not None and not bounds.workers_min <= workers <= bounds.workers_max:
        raise SpecError(
            field,
            f"is {workers}, allowed is {bounds.workers_min} to {bounds.workers_max} "
            "(its autoscale): apply a spec with other bounds first",
        )
    if workers < role.min_available:
        raise SpecError(
            field,
            f"is {workers}, allowed is at least min_available ({role.min_available}): "
            "apply a spec with a lower one first",
        )
