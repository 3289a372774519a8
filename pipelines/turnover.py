"""What a change of a spec does to the workers: who goes on, who is replaced, who comes and goes.

Pure. It says what is to be in the end; when and where is the rollout's and the scheduler's to say.
"""

import msgspec

from pipelines.topology import expand
from registry.spec import ModelSpec, Role, RolloutPolicy
from registry.state import Model, WorkerPlan, scales_that_stay

_WHOLE = 100  # percent


class Turnover(msgspec.Struct, frozen=True, kw_only=True):
    """Of one role of one variant: how many workers go on as they are, are replaced (what they were
    started with is another), come in addition, and go.
    """

    variant: str
    role: Role
    kept: int = 0
    replaced: int = 0
    started: int = 0
    stopped: int = 0

    @property
    def is_none(self) -> bool:
        return not (self.replaced or self.started or self.stopped)


class ComingRollout(msgspec.Struct, frozen=True, kw_only=True):
    """The rollout that applying a spec would begin. *supersedes* is the one under way that it would
    take the place of, by the revision that leads to; 0: none. *changes_workers* is off where all
    goes on as it is, and the new revision counts at once.
    """

    from_revision: int
    to_revision: int
    policy: RolloutPolicy
    supersedes: int
    changes_workers: bool


def turnover(model: Model | None, after: ModelSpec) -> tuple[Turnover, ...]:
    """From the model as it is declared now (None: not yet) to *after*, roles in their order."""
    old = _by_slot(model)
    new = _by_slot(as_applied(model, after))
    found: dict[tuple[str, Role], Turnover] = {}
    for slot in dict.fromkeys((*old, *new)):
        plan = new.get(slot) or old[slot]
        key = (plan.variant, plan.role)
        counted = found.get(key) or Turnover(variant=plan.variant, role=plan.role)
        change = _change(old.get(slot), new.get(slot))
        found[key] = msgspec.structs.replace(counted, **{change: getattr(counted, change) + 1})
    return tuple(found.values())


def _by_slot(model: Model | None) -> dict[tuple[str, str, Role, int], WorkerPlan]:
    gangs = expand(model) if model is not None else ()
    return {plan.slot: plan for gang in gangs for plan in gang}


def _change(before: WorkerPlan | None, after: WorkerPlan | None) -> str:
    if before is None:
        return "started"
    if after is None:
        return "stopped"
    return "kept" if before.fingerprint == after.fingerprint else "replaced"


def as_applied(model: Model | None, spec: ModelSpec, now: float = 0.0) -> Model:
    """The model as it would be with *spec* applied to it, or made of it: with a new revision, and
    without a rollout.
    """
    return Model(
        name=spec.name,
        generation=1 + (model.generation if model else 0),
        revision=1 + (model.revision if model else 0),
        spec=spec,
        created_at=model.created_at if model else now,
        updated_at=now,
        deleted=False,
        condition="",
        scales=(
            scales_that_stay(model.spec, spec, model.scales) if model and not model.deleted else ()
        ),
    )


def comes_from(model: Model) -> tuple[int, ModelSpec]:
    """The revision that a change of the model would roll from: the one that serves. Under way it is
    still the one before, until all traffic is the newest one's.
    """
    rollout = model.rollout
    if rollout is None or not rollout.is_active or rollout.percent >= _WHOLE:
        return model.revision, model.spec
    return rollout.from_revision, rollout.base


def coming_rollout(
    model: Model | None, after: ModelSpec, policy: RolloutPolicy | None = None
) -> ComingRollout | None:
    """None where there is nothing to roll: the model is new, or *after* is what it is. *policy*
    takes the place of the spec's own.
    """
    if model is None or model.deleted or model.spec == after:
        return None
    under_way = model.rollout if model.rollout is not None and model.rollout.is_active else None
    return ComingRollout(
        from_revision=comes_from(model)[0],
        to_revision=model.revision + 1,
        policy=after.rollout if policy is None else policy,
        supersedes=under_way.to_revision if under_way else 0,
        changes_workers=any(not item.is_none for item in turnover(model, after)),
    )
