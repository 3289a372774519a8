"""Routes of revisions: a model's history, what differs, and the way back."""

from collections.abc import Collection
from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParameter, RawBody

from gateway.admin.auth import FOR_VIEWERS
from gateway.admin.bodies import decode_plan, parse_if_match
from gateway.admin.context import AdminContext, AdminRequest, Context
from gateway.admin.documented import REFUSALS, THINKING_REFUSALS, WRITE_REFUSALS, TakesPlan
from gateway.admin.revision_views import (
    AppliedView,
    DiffList,
    DiffView,
    RevisionList,
    RevisionView,
    coming_diff,
    revision_list,
    revisions_diff,
)
from gateway.admin.writes import WriteTerms, rewrite
from registry.errors import ConflictError, NotFoundError
from registry.spec import ModelSpec, RolloutPolicy
from registry.state import Model, Revision, RolloutState
from registry.store.models import ROLLBACK

Number = Annotated[int | None, QueryParameter(ge=1, description="a revision")]
From = Annotated[
    int | None,
    QueryParameter(name="from", ge=1, description="a revision; without it the one before `to`"),
]
To = Annotated[int | None, QueryParameter(ge=1, description="a revision; without it the newest")]
IfMatch = Annotated[str | None, HeaderParameter(name="If-Match", description="a generation")]


class RevisionController(Controller):
    path = "/admin/v1"
    tags = ("models",)

    @get("/models/{name:str}/revisions", operation_id="listRevisions", responses=REFUSALS)
    async def list_revisions(self, ctx: Context, name: FromPath[str]) -> RevisionList:
        """The history of a model, oldest first."""
        return await _history(ctx, name)

    @get(
        "/models/{name:str}/revisions/{number:int}",
        operation_id="describeRevision",
        responses=REFUSALS,
    )
    async def describe_revision(
        self, ctx: Context, name: FromPath[str], number: FromPath[int]
    ) -> RevisionView:
        for view in (await _history(ctx, name)).items:
            if view.number == number:
                return view
        raise NotFoundError(f"revision {number} of a model", name)

    @get("/models/{name:str}/diff", operation_id="diffRevisions", responses=REFUSALS)
    async def diff_revisions(
        self, ctx: Context, name: FromPath[str], from_: From = None, to: To = None
    ) -> DiffView:
        """What differs between two revisions; without numbers what the newest changed."""
        revisions = await ctx.store.revisions(name)
        after = _find(revisions, name, to) if to is not None else revisions[-1]
        if from_ is not None:
            return revisions_diff(name, _find(revisions, name, from_), after)
        before = _find(revisions, name, after.number - 1) if after.number > 1 else None
        return revisions_diff(name, before, after)

    @post(
        "/models:diff",
        operation_id="diffModels",
        operation_class=TakesPlan,
        responses=THINKING_REFUSALS,
        status_code=200,
        opt=FOR_VIEWERS,
    )
    async def diff_models(self, ctx: Context, body: RawBody) -> DiffList:
        """What applying these specs would change. Nothing is written."""
        specs = decode_plan(body)
        models = {model.name: model for model in await ctx.store.models()}
        return await ctx.think(
            lambda: DiffList(items=tuple(coming_diff(models.get(s.name), s) for s in specs))
        )

    @post(
        "/models/{name:str}/rollback",
        operation_id="rollBackModel",
        responses=WRITE_REFUSALS,
        status_code=200,
    )
    async def roll_back(
        self,
        *,
        ctx: Context,
        request: AdminRequest,
        name: FromPath[str],
        to: Number = None,
        now: FromQuery[bool] = False,
        dry_run: FromQuery[bool] = False,
        if_match: IfMatch = None,
    ) -> Response[AppliedView]:
        """A new revision with the content of an earlier one: of `to`, or of the last one that
        differs from the newest and was not rolled back itself. With `now` all traffic goes there
        in one step.
        """
        terms = WriteTerms(
            by=request.auth,
            if_match=parse_if_match(if_match),
            dry_run=dry_run,
            policy=RolloutPolicy() if now else None,
            action=ROLLBACK,
        )

        async def earlier(model: Model) -> ModelSpec:
            revisions = await ctx.store.revisions(name)
            if to is not None:
                return _find(revisions, name, to).spec
            rollouts = await ctx.store.rollouts(name)
            failed = {r.to_revision for r in rollouts if r.state is RolloutState.ROLLED_BACK}
            return _before(revisions, model, failed).spec

        view = await rewrite(ctx, name, earlier, terms)
        return Response(view, headers={"ETag": f'"{view.generation}"'})


async def _history(ctx: AdminContext, name: str) -> RevisionList:
    model, revisions = await ctx.store.model(name), await ctx.store.revisions(name)
    return revision_list(model, revisions, await ctx.store.key_names())


def _find(revisions: tuple[Revision, ...], name: str, number: int) -> Revision:
    """Raises NotFoundError."""
    for revision in revisions:
        if revision.number == number:
            return revision
    raise NotFoundError(f"revision {number} of a model", name)


def _before(revisions: tuple[Revision, ...], model: Model, failed: Collection[int]) -> Revision:
    """The newest with another content than the model's, but for those that *failed*. Raises
    ConflictError.
    """
    for revision in reversed(revisions):
        if revision.spec != model.spec and revision.number not in failed:
            return revision
    raise ConflictError(
        f"model {model.name!r} has no earlier revision that differs from it and was not rolled "
        f"back: `modelyard history {model.name}` shows all, --to names one"
    )
