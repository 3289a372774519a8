"""Routes of models: list, describe, apply, scale, delete; `revisions` has their history."""

import asyncio
from typing import Annotated

from litestar import Controller, Response, delete, get, patch, post, put
from litestar.params import FromPath, FromQuery, HeaderParameter, RawBody

from gateway.admin.auth import FOR_VIEWERS
from gateway.admin.bodies import (
    ScaleBody,
    decode,
    decode_spec,
    parse_create_only,
    parse_if_match,
)
from gateway.admin.context import AdminContext, AdminRequest, Context
from gateway.admin.documented import REFUSALS, WRITE_REFUSALS, TakesScale, TakesSpec
from gateway.admin.pages import ModelView
from gateway.admin.plan_views import NoPlaceView, no_place_views
from gateway.admin.revision_views import AppliedView, CheckedView, RefusedView, applied_view
from gateway.admin.rollout_views import revision_parts
from gateway.admin.scale import scaled, unscaled
from gateway.admin.status import VariantStatus, restarts
from gateway.admin.views import (
    ModelList,
    event_view,
    iso,
    rollout_summary,
    variant_view,
    worker_view,
)
from gateway.admin.warnings import warnings_of
from gateway.admin.writes import WriteTerms, apply, conflict, rewrite
from pipelines.engines import runtime_of
from pipelines.plan import refusals_of
from pipelines.refusals import no_places
from registry.errors import ConflictError, NotFoundError, SpecError
from registry.spec import ModelSpec, RolloutPolicy
from registry.state import Model, Snapshot

EVENTS_SHOWN = 20

IfMatch = Annotated[str | None, HeaderParameter(name="If-Match", description="a generation")]
IfNoneMatch = Annotated[str | None, HeaderParameter(name="If-None-Match", description="only *")]


class ModelController(Controller):
    path = "/admin/v1"
    tags = ("models",)

    @get("/models", operation_id="listModels", responses=REFUSALS)
    async def list_models(self, ctx: Context) -> ModelList:
        return ModelList(items=tuple((await ctx.seen.look()).summaries.values()))

    @get("/models/{name:str}", operation_id="describeModel", responses=REFUSALS)
    async def describe_model(self, ctx: Context, name: FromPath[str]) -> Response[ModelView]:
        view = await _describe(ctx, name)
        return Response(view, headers={"ETag": f'"{view.generation}"'})

    @put(
        "/models/{name:str}",
        operation_id="applyModel",
        operation_class=TakesSpec,
        responses=WRITE_REFUSALS,
    )
    async def apply_model(
        self,
        *,
        ctx: Context,
        request: AdminRequest,
        name: FromPath[str],
        body: RawBody,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
        dry_run: FromQuery[bool] = False,
        now: FromQuery[bool] = False,
        along: FromQuery[list[str] | None] = None,
    ) -> Response[AppliedView]:
        """With `now` all traffic goes there in one step, whatever the spec's rollout says. Models
        that the client applies *along* with this one, later, are not warned of as missing.
        """
        spec = decode_spec(body, name=name)
        generation, create_only = parse_if_match(if_match), parse_create_only(if_none_match)
        terms = WriteTerms(
            by=request.auth,
            if_match=generation,
            create_only=create_only,
            dry_run=dry_run,
            policy=RolloutPolicy() if now else None,
            along=frozenset(along or ()),
        )
        view = await apply(ctx, spec, terms)
        created = view.created and not dry_run
        return Response(
            view, status_code=201 if created else 200, headers={"ETag": f'"{view.generation}"'}
        )

    @post(
        "/models:validate",
        operation_id="validateModel",
        operation_class=TakesSpec,
        responses=REFUSALS,
        status_code=200,
        opt=FOR_VIEWERS,
    )
    async def validate_model(
        self, ctx: Context, request: AdminRequest, body: RawBody
    ) -> AppliedView:
        """What applying it would say; nothing is written."""
        return await _would(ctx, request, body)

    @post(
        "/models:check",
        operation_id="checkModel",
        operation_class=TakesSpec,
        responses=REFUSALS,
        status_code=200,
        opt=FOR_VIEWERS,
    )
    async def check_model(self, ctx: Context, request: AdminRequest, body: RawBody) -> CheckedView:
        """As `models:validate`, for who is still writing: what is wrong with the spec is an answer,
        and no error.
        """
        try:
            return CheckedView(would=await _would(ctx, request, body), refused=None)
        except SpecError as error:
            refused = RefusedView(field=error.field, message=error.message)
            return CheckedView(would=None, refused=refused)

    @patch(
        "/models/{name:str}/scale",
        operation_id="scaleModel",
        operation_class=TakesScale,
        responses=WRITE_REFUSALS,
    )
    async def scale_model(
        self,
        *,
        ctx: Context,
        request: AdminRequest,
        name: FromPath[str],
        body: RawBody,
        if_match: IfMatch = None,
        dry_run: FromQuery[bool] = False,
    ) -> Response[AppliedView]:
        wish, generation = decode(body, ScaleBody), parse_if_match(if_match)
        terms = WriteTerms(by=request.auth, if_match=generation, dry_run=dry_run)

        async def with_counts(model: Model) -> ModelSpec:
            return scaled(model.spec, wish)

        view = await rewrite(ctx, name, with_counts, terms)
        if not dry_run:  # also where the spec said the same number already
            for variant, role in unscaled(view.spec, wish):
                await ctx.store.unscale_role(name, variant, role, by=request.auth)
        return Response(view, headers={"ETag": f'"{view.generation}"'})

    @delete(
        "/models/{name:str}",
        operation_id="deleteModel",
        responses=WRITE_REFUSALS,
        status_code=200,
    )
    async def delete_model(
        self, ctx: Context, request: AdminRequest, name: FromPath[str], if_match: IfMatch = None
    ) -> AppliedView:
        generation = parse_if_match(if_match)
        try:
            model = await ctx.store.delete_model(name, by=request.auth, if_match=generation)
        except ConflictError as error:
            raise conflict(error, conditional=generation is not None) from None
        return applied_view(model, changed=True)


async def _would(ctx: AdminContext, request: AdminRequest, body: bytes) -> AppliedView:
    spec = decode_spec(body, name=None)
    return await apply(ctx, spec, WriteTerms(by=request.auth, dry_run=True))


async def _describe(ctx: AdminContext, name: str) -> ModelView:
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(ctx.seen.look())
        events = group.create_task(ctx.store.events(model=name, limit=EVENTS_SHOWN, newest=True))
        asking = group.create_task(ctx.store.newest_rollout(name))
    standing, rollout = reading.result().standing, asking.result()
    snapshot, model = standing.snapshot, standing.models.get(name)
    if model is None:
        raise NotFoundError("model", name)
    variants = standing.statuses[name]
    counts = await ctx.engine_counts(tuple(w for item in variants for w in item.workers))
    no_place = await _no_place(ctx, snapshot, name, variants)
    ended, now = restarts(snapshot), ctx.clock()
    return ModelView(
        name=model.name,
        state=standing.states[name],
        condition=model.condition,
        generation=model.generation,
        revision=model.revision,
        created_at=iso(model.created_at),
        updated_at=iso(model.updated_at),
        spec=model.spec,
        rollout=rollout_summary(rollout) if rollout is not None else None,
        revisions=revision_parts(model, snapshot),
        variants=tuple(
            variant_view(
                item,
                tuple(
                    worker_view(
                        worker,
                        now=now,
                        devices=standing.devices.get(worker.id, ()),
                        restarts=ended.get(worker.plan.slot, 0),
                        metrics=counts.get(worker.id),
                    )
                    for worker in item.workers
                ),
            )
            for item in variants
        ),
        no_place=no_place,
        warnings=warnings_of(model.spec, snapshot.models),
        events=tuple(sorted(map(event_view, events.result()), key=lambda event: event.id)),
    )


async def _no_place(
    ctx: AdminContext, snapshot: Snapshot, name: str, variants: tuple[VariantStatus, ...]
) -> tuple[NoPlaceView, ...]:
    if all(count.live >= count.desired for item in variants for count in item.roles):
        return ()
    now = ctx.clock()
    return await ctx.thought(
        f"model {name}",
        snapshot,
        lambda: no_place_views(no_places(refusals_of(snapshot, name, now, runtime_of))),
    )
