"""What the admin API answers about revisions: what a write did or would do, diffs, a history."""

from collections.abc import Mapping

from gateway.admin.views import View, iso
from pipelines.turnover import ComingRollout, Turnover, as_applied, coming_rollout, turnover
from registry.spec import Change, ModelSpec, Promote, RolloutPolicy, diff, summary_of, to_json
from registry.state import Model, Revision

WHOLE_PERCENT = 100


class ComingRolloutView(View, frozen=True, kw_only=True):
    """The rollout that a write would begin: its *canary* steps, percents of the traffic, each for
    *pause_s* at least, with a *gate* on the new revision or without. It takes the place of the one
    under way to revision *supersedes*, if any. Where it *changes_workers* not, the new revision
    counts at once.
    """

    from_revision: int
    to_revision: int
    canary: tuple[int, ...]
    pause_s: float
    promote: Promote
    gate: bool
    supersedes: int
    changes_workers: bool


class DiffView(View, frozen=True, kw_only=True):
    """From one revision of a model to another, field by field, and what it means for its workers.
    *from_revision* is 0 for a model that is not there. *rollout* is what a write would begin: null
    between two revisions, for a new model, and where nothing changes.
    """

    name: str
    from_revision: int
    to_revision: int
    changes: tuple[Change, ...]
    workers: tuple[Turnover, ...]
    rollout: ComingRolloutView | None


class DiffList(View, frozen=True, kw_only=True):
    items: tuple[DiffView, ...]


def coming_diff(
    model: Model | None, after: ModelSpec, policy: RolloutPolicy | None = None
) -> DiffView:
    """What applying *after* would change. *policy* is as in `coming_rollout`."""
    revision = model.revision if model else 0
    current = model.spec if model else None
    return DiffView(
        name=after.name,
        from_revision=revision,
        to_revision=revision if current == after else revision + 1,
        changes=diff(current, after),
        workers=turnover(model, after),
        rollout=_coming_rollout_view(coming_rollout(model, after, policy)),
    )


def revisions_diff(name: str, before: Revision | None, after: Revision) -> DiffView:
    """Between two revisions; *before* is None for the first one's predecessor."""
    spec = before.spec if before else None
    return DiffView(
        name=name,
        from_revision=before.number if before else 0,
        to_revision=after.number,
        changes=diff(spec, after.spec),
        workers=turnover(as_applied(None, spec) if spec else None, after.spec),
        rollout=None,
    )


def _coming_rollout_view(coming: ComingRollout | None) -> ComingRolloutView | None:
    if coming is None:
        return None
    return ComingRolloutView(
        from_revision=coming.from_revision,
        to_revision=coming.to_revision,
        canary=coming.policy.canary,
        pause_s=coming.policy.pause_s,
        promote=coming.policy.promote,
        gate=coming.policy.gate is not None,
        supersedes=coming.supersedes,
        changes_workers=coming.changes_workers,
    )


class AppliedView(View, frozen=True, kw_only=True):
    """What a write did. With *dry_run* nothing was written, the numbers are the current ones (0 for
    a model that does not exist), and *diff* says what it would change. *warnings*: what is right
    and may still not be what was meant.
    """

    name: str
    created: bool
    changed: bool
    dry_run: bool
    generation: int
    revision: int
    spec: ModelSpec
    diff: DiffView | None = None
    warnings: tuple[str, ...] = ()


class RefusedView(View, frozen=True, kw_only=True):
    """What is wrong with a spec: *field* is the path of the offending value, "" for all of it."""

    field: str
    message: str


class CheckedView(View, frozen=True, kw_only=True):
    """What applying a spec *would* do, or why it would be *refused*: one of both is null."""

    would: AppliedView | None
    refused: RefusedView | None


def applied_view(model: Model, *, changed: bool, created: bool = False) -> AppliedView:
    return AppliedView(
        name=model.name,
        created=created,
        changed=changed,
        dry_run=False,
        generation=model.generation,
        revision=model.revision,
        spec=model.spec,
    )


def dry_run_view(
    model: Model | None, spec: ModelSpec, policy: RolloutPolicy | None = None
) -> AppliedView:
    """What applying *spec* to *model*, if there is one, would do."""
    return AppliedView(
        name=spec.name,
        created=model is None,
        changed=model is None or model.spec != spec,
        dry_run=True,
        generation=model.generation if model else 0,
        revision=model.revision if model else 0,
        spec=spec,
        diff=coming_diff(model, spec, policy),
    )


class RevisionView(View, frozen=True, kw_only=True):
    """*changes* are a few words on what it changed. It takes *traffic_percent* of the traffic now:
    the newest all of it, unless a rollout leads there.
    """

    number: int
    created_at: str
    created_by: str
    created_by_name: str
    changes: str
    newest: bool
    traffic_percent: int
    spec: ModelSpec


class RevisionList(View, frozen=True, kw_only=True):
    items: tuple[RevisionView, ...]


def revision_list(
    model: Model, revisions: tuple[Revision, ...], key_names: Mapping[str, str]
) -> RevisionList:
    """*revisions* are all of the model, oldest first."""
    views = []
    numbers: dict[bytes, int] = {}  # the newest revision that had this content
    before: Revision | None = None
    for revision in revisions:
        content = to_json(revision.spec)
        views.append(
            RevisionView(
                number=revision.number,
                created_at=iso(revision.created_at),
                created_by=revision.created_by,
                created_by_name=key_names.get(revision.created_by, ""),
                changes=_in_words(before, revision, numbers.get(content)),
                newest=revision.number == model.revision,
                traffic_percent=_traffic_percent(model, revision.number),
                spec=revision.spec,
            )
        )
        numbers[content] = revision.number
        before = revision
    return RevisionList(items=tuple(views))


def _in_words(before: Revision | None, revision: Revision, same_as: int | None) -> str:
    if before is None:
        return "created"
    if same_as is not None:
        return f"as revision {same_as}"
    return summary_of(diff(before.spec, revision.spec))


def _traffic_percent(model: Model, number: int) -> int:
    rollout = model.rollout
    if rollout is None or not rollout.is_active:
        return WHOLE_PERCENT if number == model.revision else 0
    shares = {
        rollout.from_revision: WHOLE_PERCENT - rollout.percent,
        rollout.to_revision: rollout.percent,
    }
    return shares.get(number, 0)
