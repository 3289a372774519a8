"""What changes from the old revision to the new one: which workers take the place of which. Pure.

A worker plan of equal slot and fingerprint in both is the same worker and stands aside. So does a
role that only gets more or fewer workers: nothing of it is replaced.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import msgspec

from pipelines.topology import Gang, expand
from registry.spec import ModelSpec, Role, RoleSpec
from registry.state import LEAVING_PHASES, Model, RoleScale, Rollout, Worker, WorkerPlan

PartKey = tuple[str, Role]  # a role of a variant


WHOLE = 100  # percent


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The workers of one role that change. *surge* and *unavailable* are how many more may live
    and fewer be ready meanwhile, *minimum* how many stay ready whatever comes.
    """

    variant: str
    role: Role
    plans: tuple[WorkerPlan, ...]
    surge: int | None
    unavailable: int
    minimum: int

    @property
    def key(self) -> PartKey:
        return self.variant, self.role

    def needed(self, percent: int) -> int:
        """How many of its workers *percent* of the traffic needs: the fewest that are worth so
        much, in whole percents rounded up. So two of three do for 67 %, and one for 34 %.
        """
        count = len(self.plans)
        if percent in {0, WHOLE}:
            return count if percent else 0
        return count * (percent - 1) // WHOLE + 1


class Handover(msgspec.Struct, frozen=True):
    """Old and new workers that give way to each other: a role of a variant; or, where a variant's
    roles or the variants themselves change, all of these together.
    """

    old: tuple[Part, ...]
    new: tuple[Part, ...]

    @property
    def is_crossing(self) -> bool:
        """Its old and new workers cannot be counted together: they do different things."""
        return {part.key for part in self.old} != {part.key for part in self.new}

    @property
    def keys(self) -> frozenset[PartKey]:
        return frozenset(part.key for part in (*self.old, *self.new))

    @property
    def workers_max(self) -> int | None:
        """How many of its workers may live at once; None: as many as find room."""
        surges = [part.surge for part in self.new]
        if None in surges:
            return None
        sizes = (sum(len(part.plans) for part in side) for side in (self.old, self.new))
        return max(sizes) + sum(surge for surge in surges if surge is not None)

    @property
    def is_external(self) -> bool:
        return all(plan.external for part in self.new for plan in part.plans)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """*standing*: new plans that replace nobody. *gangs* and *old_gangs*: what each of the two
    revisions asks for.
    """

    handovers: tuple[Handover, ...]
    standing: Gang
    gangs: tuple[Gang, ...]
    old_gangs: tuple[Gang, ...]


def difference(model: Model, rollout: Rollout, workers: Iterable[Worker]) -> Difference:
    """*workers* are the model's live ones."""
    old_gangs, gangs = expand(_base_of(model, rollout, workers)), expand(model)
    old, new = _by_part(old_gangs), _by_part(gangs)
    old_parts = {key: _changed(plans, new.get(key, ())) for key, plans in old.items()}
    new_parts = {key: _changed(plans, old.get(key, ())) for key, plans in new.items()}
    changed = {plan.slot for plans in new_parts.values() for plan in plans}
    standing = (plan for plans in new.values() for plan in plans if plan.slot not in changed)
    limits = {**_limits(rollout.base), **_limits(model.spec)}
    return Difference(
        handovers=_handovers(
            [_part(key, plans, limits[key]) for key, plans in old_parts.items() if plans],
            [_part(key, plans, limits[key]) for key, plans in new_parts.items() if plans],
            _limits(rollout.base),
            _limits(model.spec),
        ),
        standing=tuple(standing),
        gangs=gangs,
        old_gangs=old_gangs,
    )


def _base_of(model: Model, rollout: Rollout, workers: Iterable[Worker]) -> Model:
    """The model as the revision has it that it comes from. What an autoscaler had said of it may be
    void by the newest spec: its roles have as many workers as serve.
    """
    base = msgspec.structs.replace(
        model, spec=rollout.base, revision=rollout.from_revision, scales=()
    )
    autoscaled = [
        (variant.name, role)
        for variant in base.spec.variants
        for role, limits in variant.topology.roles()
        if limits.autoscale is not None
    ]
    if not autoscaled:
        return base
    scaled = msgspec.structs.replace(base, scales=model.scales)
    plans, there = _by_part(expand(scaled)), tuple(workers)
    scales = [
        RoleScale(
            variant=variant,
            role=role,
            workers=_as_many(plans[variant, role], there),
            reason="",
            at=rollout.created_at,
        )
        for variant, role in autoscaled
    ]
    return msgspec.structs.replace(base, scales=tuple(scales))


def _as_many(plans: Gang, workers: Iterable[Worker]) -> int:
    """At least as many as *plans*, of one role, are: up to the last that has served."""
    (variant, role), fingerprint = plans[0].slot[1:3], plans[0].fingerprint
    serving = (
        worker.plan.ordinal + 1
        for worker in workers
        if (worker.plan.variant, worker.plan.role) == (variant, role)
        and worker.plan.fingerprint == fingerprint
        and worker.ready_at is not None
        and worker.phase not in LEAVING_PHASES
    )
    return max(len(plans), *serving, 0)


def _by_part(gangs: Iterable[Gang]) -> dict[PartKey, Gang]:
    parts: dict[PartKey, list[WorkerPlan]] = defaultdict(list)
    for gang in gangs:
        for plan in gang:
            parts[plan.variant, plan.role].append(plan)
    return {key: tuple(plans) for key, plans in parts.items()}


def _changed(plans: Gang, others: Gang) -> Gang:
    """Those in whose slot the other revision has another worker, or has none: unless the rest of
    their role stays the same, since then only its number differs.
    """
    there = {plan.slot: plan.fingerprint for plan in others}
    same = any(there.get(plan.slot) == plan.fingerprint for plan in plans)
    return tuple(
        plan
        for plan in plans
        if (there[plan.slot] != plan.fingerprint if plan.slot in there else not same)
    )


def _limits(spec: ModelSpec) -> dict[PartKey, RoleSpec]:
    return {
        (variant.name, role): limits
        for variant in spec.variants
        for role, limits in variant.topology.roles()
    }


def _part(key: PartKey, plans: Gang, limits: RoleSpec) -> Part:
    """*limits* are those of the newest spec, if it has the role."""
    variant, role = key
    return Part(
        variant=variant,
        role=role,
        plans=plans,
        surge=limits.max_surge,
        unavailable=limits.max_unavailable,
        minimum=limits.min_available,
    )


def _handovers(
    old: Sequence[Part],
    new: Sequence[Part],
    keys_old: Collection[PartKey],
    keys_new: Collection[PartKey],
) -> tuple[Handover, ...]:
    handovers: dict[tuple[str, str], Handover] = defaultdict(lambda: Handover((), ()))
    for part in old:
        name = _handover_of(part, keys_old, keys_new)
        handovers[name] = Handover((*handovers[name].old, part), handovers[name].new)
    for part in new:
        name = _handover_of(part, keys_old, keys_new)
        handovers[name] = Handover(handovers[name].old, (*handovers[name].new, part))
    return tuple(handovers.values())


def _handover_of(
    part: Part, keys_old: Collection[PartKey], keys_new: Collection[PartKey]
) -> tuple[str, str]:
    """By variant and role; "" for all of them."""
    before = {role for variant, role in keys_old if variant == part.variant}
    after = {role for variant, role in keys_new if variant == part.variant}
    if not before or not after:
        return "", ""
    return part.variant, part.role if before == after else ""
