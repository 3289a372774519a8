"""Routes of what goes on now: overview, flow, series, and the stream of all of it."""

from typing import Annotated

from litestar import Controller, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParameter
from litestar.response import Stream

from gateway.admin.context import AdminContext, AdminRequest, Context, stream
from gateway.admin.documented import REFUSALS, STREAM_REFUSALS
from gateway.admin.live.follow import Wanted, follow
from gateway.admin.live.rates import of_clients, window_end
from gateway.admin.live.series import Steps, Whose, points
from gateway.admin.live.views import FlowView, LiveEvents, OverviewView, SeriesView
from registry.errors import NotFoundError, SpecError, UnavailableError
from registry.state import Model
from registry.traffic import SLOT_S, TRAFFIC_KEPT_S

TOPICS = ("overview", "models", "flow", "events")
# A follower that takes nothing for so long is let go, and comes again when it can.
SLOW_S = 20.0
_EVENT_STREAM = "text/event-stream"

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
    str,
    QueryParameter(
        description=f"of {', '.join(TOPICS)}, with commas between; flow is that of `model`"
    ),
]
LastEventId = Annotated[
    int | None,
    HeaderParameter(name="Last-Event-ID", ge=0, le=2**62, description="events after it"),
]
After = Annotated[
    int | None,
    QueryParameter(ge=0, le=2**62, description="events after this id; without it from now"),
]


class LiveController(Controller):
    path = "/admin/v1"
    tags = ("live",)

    @get("/overview", operation_id="overview", responses=REFUSALS)
    async def overview(self, ctx: Context) -> OverviewView:
        return (await ctx.seen.look()).overview

    @get("/models/{name:str}/flow", operation_id="modelFlow", responses=REFUSALS)
    async def flow(self, ctx: Context, name: FromPath[str]) -> FlowView:
        return await ctx.feed.flow(name)

    @get("/series", operation_id="series", responses=REFUSALS)
    async def series(
        self, ctx: Context, since_s: Since = TRAFFIC_KEPT_S, step_s: Step = 15.0
    ) -> SeriesView:
        """Of all models together."""
        steps = _steps(ctx, since_s, step_s)
        models = (await ctx.seen.look()).standing.models
        sums = await ctx.past.sums(steps.since, steps.until, models)
        return SeriesView(model="", step_s=step_s, points=points(steps, sums.items()))

    @get("/models/{name:str}/series", operation_id="modelSeries", responses=REFUSALS)
    async def model_series(
        self,
        *,
        ctx: Context,
        name: FromPath[str],
        since_s: Since = TRAFFIC_KEPT_S,
        step_s: Step = 15.0,
        variant: FromQuery[str | None] = None,
        revision: FromQuery[int | None] = None,
    ) -> SeriesView:
        """Copies for shadows are in it only where their variant is asked for."""
        steps = _steps(ctx, since_s, step_s)
        model = await _model(ctx, name)
        told = await ctx.store.traffic(steps.since, name, until=steps.until)
        whose = Whose(variant=variant, revision=revision)
        rows = [row for row in told if whose.has(row)]
        if variant is None:
            rows = of_clients(model, rows)
        return SeriesView(
            model=name, step_s=step_s, points=points(steps, ((row.at, row) for row in rows))
        )

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
        *,
        ctx: Context,
        request: AdminRequest,
        topics: Topics = "overview,models,events",
        model: FromQuery[str | None] = None,
        after: After = None,
        last_event_id: LastEventId = None,
    ) -> Stream:
        """Overview and flow come every two seconds, of models those that changed, and events as
        they happen. It ends when whoever follows may no longer use this API.
        """
        wanted = _wanted(topics, model, after if last_event_id is None else last_event_id)
        if wanted.flow is not None:
            await _model(ctx, wanted.flow)
        ctx.followers.check()

        async def allowed() -> bool:
            try:
                return await ctx.guard.is_still_admitted(request.scope)
            except UnavailableError:  # the registry is away: nobody was shut out
                return True

        return stream(
            ctx.followers.through(follow(ctx.feed, wanted, allowed)), _EVENT_STREAM, slow_s=SLOW_S
        )


def _wanted(topics: str, model: str | None, after: int | None) -> Wanted:
    """Raises SpecError."""
    asked = frozenset(topics.split(","))
    if unknown := asked - frozenset(TOPICS):
        raise SpecError("topics", f"{min(unknown)!r} is none of {', '.join(TOPICS)}")
    if "flow" in asked and model is None:
        raise SpecError("model", "say whose flow: model=NAME")
    return Wanted(
        overview="overview" in asked,
        models="models" in asked,
        flow=model if "flow" in asked else None,
        events="events" in asked,
        after=after,
    )


def _steps(ctx: AdminContext, since_s: float, step_s: float) -> Steps:
    """Raises SpecError."""
    if step_s % SLOT_S:
        raise SpecError("step_s", f"is whole times {SLOT_S:g} s, as traffic is told")
    return Steps.back(window_end(ctx.clock()), since_s, step_s)


async def _model(ctx: AdminContext, name: str) -> Model:
    """Raises NotFoundError."""
    model = (await ctx.seen.look()).standing.models.get(name)
    if model is None:
        raise NotFoundError("model", name)
    return model
