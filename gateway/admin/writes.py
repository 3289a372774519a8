"""How the admin API writes models: against what the client has seen, or against what was read."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from gateway.admin.context import AdminContext
from gateway.admin.errors import PreconditionError
from gateway.admin.revision_views import AppliedView, applied_view, dry_run_view
from gateway.admin.warnings import warnings_of
from registry.errors import ConflictError, NotFoundError
from registry.spec import ModelSpec, RolloutPolicy
from registry.state import Model, Principal
from registry.store.models import APPLY

_ATTEMPTS = 5


class WriteTerms(NamedTuple):
    """On whose behalf, and how, a model is written. *policy* takes the place of its spec's rollout
    policy this time. Models *along* are written with it, later.
    """

    by: Principal
    if_match: int | None = None
    create_only: bool = False
    dry_run: bool = False
    policy: RolloutPolicy | None = None
    action: str = APPLY
    along: frozenset[str] = frozenset()

    @property
    def conditional(self) -> bool:
        return self.if_match is not None or self.create_only


async def apply(ctx: AdminContext, spec: ModelSpec, terms: WriteTerms) -> AppliedView:
    """Raises PreconditionError, ConflictError."""
    view = await _apply(ctx, spec, terms)
    models = await ctx.store.models() if spec.fallback.models else ()
    return msgspec.structs.replace(view, warnings=warnings_of(spec, models, terms.along))


async def _apply(ctx: AdminContext, spec: ModelSpec, terms: WriteTerms) -> AppliedView:
    current = await standing(ctx, spec.name)
    if terms.dry_run:
        _check(current, spec.name, terms)
        return dry_run_view(current, spec, terms.policy)
    try:
        model, changed = await _store(ctx, spec, terms, terms.if_match)
    except ConflictError as error:
        raise conflict(error, conditional=terms.conditional) from None
    return applied_view(model, changed=changed, created=changed and current is None)


def _check(current: Model | None, name: str, terms: WriteTerms) -> None:
    """Raises PreconditionError where writing would."""
    generation = current.generation if current else 0
    if terms.create_only and current:
        raise PreconditionError(f"model {name!r} exists already")
    if terms.if_match is not None and terms.if_match != generation:
        raise PreconditionError(f"model {name!r} is at generation {generation}")


async def rewrite(
    ctx: AdminContext,
    name: str,
    change: Callable[[Model], Awaitable[ModelSpec]],
    terms: WriteTerms,
) -> AppliedView:
    """Writes what *change* makes of the model that is there, against the generation it read;
    without a client's If-Match it reads again when somebody else wrote in between.
    """
    for attempt in range(_ATTEMPTS):
        model = await ctx.store.model(name)
        spec = await change(model)
        if terms.dry_run:
            _check(model, name, terms)
            return dry_run_view(model, spec, terms.policy)
        seen = model.generation if terms.if_match is None else terms.if_match
        try:
            written, changed = await _store(ctx, spec, terms, seen)
        except ConflictError as error:
            if terms.if_match is not None or attempt == _ATTEMPTS - 1:
                raise conflict(error, conditional=terms.conditional) from None
        else:
            return applied_view(written, changed=changed)
    raise AssertionError("the last attempt returns or raises")


async def _store(
    ctx: AdminContext, spec: ModelSpec, terms: WriteTerms, if_match: int | None
) -> tuple[Model, bool]:
    return await ctx.store.apply_model(
        spec,
        by=terms.by,
        if_match=if_match,
        create_only=terms.create_only,
        policy=terms.policy,
        action=terms.action,
    )


async def standing(ctx: AdminContext, name: str) -> Model | None:
    try:
        return await ctx.store.model(name)
    except NotFoundError:
        return None


def conflict(error: ConflictError, *, conditional: bool) -> Exception:
    """A failed precondition is the client's own condition speaking: 412, not 409."""
    return PreconditionError(str(error)) if conditional else error
