"""Routes of what goes on now: overview, flow, series, and the stream of all of it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from litestar import Controller, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from gateway.admin.context import AdminContext, Context, stream
from gateway.admin.documented import REFUSALS, STREAM_REFUSALS
from gateway.admin.live.flow import flow
from gateway.admin.live.rates import window_end
from gateway.admin.live.seen import look
from gateway.admin.live.series import Whose, points
from gateway.admin.live.views import FlowView, LiveEvents, ModelsEvent, OverviewView, SeriesView
from gateway.admin.views import View
from pipelines.awake.wishes import NOTHING
from registry.errors import NotFoundError
from registry.traffic import SLOT_S, TRAFFIC_KEPT_S

_EVENT_STREAM = "text/event-stream"
_EVERY_S = 2.0

Since = Annotated[
    float, QueryParameter(ge=SLOT_S, le=TRAFFIC_KEPT_S, description="how far back, in seconds")
]
Step = Annotated[
    float,
    QueryParameter(
        ge=SLOT_S, le=TRAFFIC_KEPT_S, description="what a point covers: whole times 5 seconds"
    ),
]
Topics = Annotated[
    str, QueryParameter(description="of overview, models, events, flow; commas between")
]


class LiveController(Controller):
    path = "/admin/v1"
    tags = ("live",)

    @get("/overview", operation_id="overview", responses=REFUSALS)
    async def overview(self, ctx: Context) -> OverviewView:
        return (await look(ctx.store, ctx.clock())).overview()

    @get("/models/{name:str}/flow", operation_id="modelFlow", responses=REFUSALS)
    async def flow(self, ctx: Context, name: FromPath[str]) -> FlowView:
        return await _flow(ctx, name)

    @get("/series", operation_id="series", responses=REFUSALS)
    async def series(
        self, ctx: Context, since_s: Since = 3600.0, step_s: Step = 15.0
    ) -> SeriesView:
        """Of all models together."""
        return await _series(ctx, Whose(), since_s, step_s)

    @get("/models/{name:str}/series", operation_id="modelSeries", responses=REFUSALS)
    async def model_series(
        self,
        *,
        ctx: Context,
        name: FromPath[str],
        since_s: Since = 3600.0,
        step_s: Step = 15.0,
        variant: FromQuery[str | None] = None,
        revision: FromQuery[int | None] = None,
    ) -> SeriesView:
        whose = Whose(model=name, variant=variant, revision=revision)
        return await _series(ctx, whose, since_s, step_s)

    @get(
        "/live",
        operation_id="live",
        responses={
            200: ResponseSpec(
                LiveEvents,
                description="Server-sent events; their data by the event's name",
                media_type=_EVENT_STREAM,
                generate_examples=False,
            ),
            **STREAM_REFUSALS,
        },
    )
    async def live(
        self,
        ctx: Context,
        topics: Topics = "overview,models,events",
        model: FromQuery[str | None] = None,
    ) -> Stream:
        ctx.followers.check()
        return stream(_live(ctx, frozenset(topics.split(",")), model), _EVENT_STREAM)


async def _flow(ctx: AdminContext, name: str) -> FlowView:
    now = ctx.clock()
    seen = await look(ctx.store, now)
    held: dict[str, tuple[str, ...]] = {}
    for claim in seen.snapshot.claims:
        held[claim.worker_id] = (*held.get(claim.worker_id, ()), claim.device_id)
    for model in seen.snapshot.models:
        if model.name == name:
            return flow(
                model,
                seen.workers.get(name, []),
                seen.traffic.get(name, []),
                seen.wishes.get(name, NOTHING),
                devices=held,
                now=now,
            )
    raise NotFoundError("model", name)


async def _series(ctx: AdminContext, whose: Whose, since_s: float, step_s: float) -> SeriesView:
    until = window_end(ctx.clock())
    rows = filter(whose.has, await ctx.store.traffic(until - since_s, whose.model))
    return SeriesView(
        model=whose.model or "",
        step_s=step_s,
        points=points(rows, since=until - since_s, until=until, step_s=step_s),
    )


async def _live(
    ctx: AdminContext, topics: frozenset[str], model: str | None
) -> AsyncGenerator[bytes, None]:
    with ctx.followers.one():
        while True:
            seen = await look(ctx.store, ctx.clock())
            if "overview" in topics:
                yield _event("overview", seen.overview())
            if "models" in topics:
                whole = ModelsEvent(items=seen.summaries(), removed=(), whole=True)
                yield _event("models", whole)
            if model is not None:
                yield _event("flow", await _flow(ctx, model))
            await asyncio.sleep(_EVERY_S)


def _event(name: str, view: View) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(view))
