"""Models, their revisions, and the ways between these."""

from collections.abc import Iterable
from enum import StrEnum

from registry.spec import ModelSpec, Role, RolloutPolicy
from registry.state.value import Value


class RoleScale(Value, frozen=True, kw_only=True):
    """How many *workers* an autoscaled role is to have, and why; it outlives revisions."""

    variant: str
    role: Role
    workers: int
    reason: str
    at: float


def scales_that_stay(
    before: ModelSpec, after: ModelSpec | None, scales: Iterable[RoleScale]
) -> tuple[RoleScale, ...]:
    """Of *scales* those that still hold once *after* (None: deleted) takes the place of *before*:
    not of a role that is not autoscaled any more, or now begins with another number.
    """
    old, new = _autoscaled(before), _autoscaled(after)
    return tuple(
        scale
        for scale in scales
        if (slot := (scale.variant, scale.role)) in old and old[slot] == new.get(slot)
    )


def _autoscaled(spec: ModelSpec | None) -> dict[tuple[str, Role], int]:
    """With how many workers such a role begins."""
    return {
        (variant.name, role): role_spec.workers
        for variant in (spec.variants if spec is not None else ())
        for role, role_spec in variant.topology.roles()
        if role_spec.autoscale is not None
    }


class RolloutState(StrEnum):
    PROGRESSING = "progressing"
    PAUSED = "paused"  # by somebody, or at a step that somebody has to lead on from
    STALLED = "stalled"  # it failed, and its policy rolls nothing back
    DONE = "done"
    ROLLED_BACK = "rolled-back"
    SUPERSEDED = "superseded"  # by a newer revision


ACTIVE_ROLLOUT_STATES = frozenset(
    {RolloutState.PROGRESSING, RolloutState.PAUSED, RolloutState.STALLED}
)


class Rollout(Value, frozen=True, kw_only=True):
    """A model's way from one revision to another. *step* counts the canary steps that were entered;
    since *step_at* the new revision takes *percent* of the traffic (0 before the first).
    *policy* is that of its beginning. *base* is whose *from_revision* the rest of the traffic is.
    """

    model: str
    from_revision: int
    to_revision: int
    base: ModelSpec
    policy: RolloutPolicy
    state: RolloutState
    step: int
    percent: int
    step_at: float
    reason: str  # a sentence for people: what it waits for, or why it ended
    created_at: float
    ended_at: float | None

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_ROLLOUT_STATES


class Model(Value, frozen=True, kw_only=True):
    """A model's current state. *generation* counts its writes and is the ETag. *rollout* is the one
    under way, if any.
    """

    name: str
    generation: int
    revision: int
    spec: ModelSpec
    created_at: float
    updated_at: float
    deleted: bool  # still listed while its last workers stop
    condition: str  # why it is not fully served, by the last reconciliation; "" when it is
    degraded: bool = False  # the condition is of workers that are ready and yet serve badly
    rollout: Rollout | None = None
    scales: tuple[RoleScale, ...] = ()


class Proposal(Value, frozen=True, kw_only=True):
    """A spec that a measurement or a planner suggests for a model, until somebody takes it (then it
    is a revision) or refuses it. *base_revision* is what it was made from.
    """

    id: str
    model: str
    base_revision: int
    spec: ModelSpec
    reason: str
    created_at: float
    created_by: str
    taken: bool | None  # None: nobody has decided
    decided_at: float | None


class Revision(Value, frozen=True, kw_only=True):
    model: str
    number: int
    spec: ModelSpec
    created_at: float
    created_by: str
