"""Routes of rollouts: how far they are; pause, resume, abort."""

import asyncio
from collections.abc import Awaitable

from litestar import Controller, get, post
from litestar.params import FromPath

from gateway.admin.context import AdminContext, AdminRequest, Context
from gateway.admin.documented import REFUSALS, WRITE_REFUSALS
from gateway.admin.rollout_views import RolloutList, RolloutView, rollout_view
from registry.errors import ConflictError, NotFoundError
from registry.state import Model, Rollout, Snapshot


class RolloutController(Controller):
    path = "/admin/v1"
    tags = ("rollouts",)

    @get("/rollouts", operation_id="listRollouts", responses=REFUSALS)
    async def list_rollouts(self, ctx: Context) -> RolloutList:
        """Those under way."""
        snapshot = await ctx.snapshots.newest()
        found = [(m, m.rollout) for m in snapshot.models if m.rollout is not None and not m.deleted]
        views = [await _view(ctx, snapshot, model, rollout) for model, rollout in found]
        return RolloutList(items=tuple(views))

    @get("/models/{name:str}/rollout", operation_id="describeRollout", responses=REFUSALS)
    async def describe_rollout(self, ctx: Context, name: FromPath[str]) -> RolloutView:
        """The model's newest, under way or ended."""
        return await _newest(ctx, name)

    @post(
        "/models/{name:str}/rollout:pause",
        operation_id="pauseRollout",
        responses=WRITE_REFUSALS,
        status_code=200,
    )
    async def pause(self, ctx: Context, request: AdminRequest, name: FromPath[str]) -> RolloutView:
        """It stays at its step, with the traffic and the workers that it has."""
        return await _after(ctx, name, ctx.store.pause_rollout(name, by=request.auth))

    @post(
        "/models/{name:str}/rollout:resume",
        operation_id="resumeRollout",
        responses=WRITE_REFUSALS,
        status_code=200,
    )
    async def resume(self, ctx: Context, request: AdminRequest, name: FromPath[str]) -> RolloutView:
        """It goes on, past the step at which it waited for somebody."""
        return await _after(ctx, name, ctx.store.resume_rollout(name, by=request.auth))

    @post(
        "/models/{name:str}/rollout:abort",
        operation_id="abortRollout",
        responses=WRITE_REFUSALS,
        status_code=200,
    )
    async def abort(self, ctx: Context, request: AdminRequest, name: FromPath[str]) -> RolloutView:
        """It is rolled back: a new revision with the content of the one before."""
        return await _after(ctx, name, ctx.store.abort_rollout(name, by=request.auth))


async def _after(ctx: AdminContext, name: str, written: Awaitable[object]) -> RolloutView:
    """Raises NotFoundError for an unknown model, ConflictError where nothing is under way."""
    try:
        await written
    except NotFoundError:
        await ctx.store.model(name)
        raise ConflictError(
            f"model {name!r} has no rollout under way: applying a changed spec begins one, "
            f"`modelyard rollout status {name}` shows how the last one ended"
        ) from None
    return await _newest(ctx, name)


async def _newest(ctx: AdminContext, name: str) -> RolloutView:
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(ctx.snapshots.newest())
        asking = group.create_task(ctx.store.newest_rollout(name))
    snapshot, rollout = reading.result(), asking.result()
    for model in snapshot.models:
        if model.name == name and not model.deleted:
            if rollout is None:
                raise NotFoundError("rollout so far of a model", name)
            return await _view(ctx, snapshot, model, rollout)
    raise NotFoundError("model", name)


async def _view(
    ctx: AdminContext, snapshot: Snapshot, model: Model, rollout: Rollout
) -> RolloutView:
    newest = model.spec
    if model.revision != rollout.to_revision:
        revisions = await ctx.store.revisions(model.name)
        newest = next(item.spec for item in revisions if item.number == rollout.to_revision)
    traffic = await ctx.store.rollout_traffic(model.name, rollout.to_revision)
    return rollout_view(rollout, model, newest, snapshot.workers, traffic)
