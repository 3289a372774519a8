"""Routes of what happened: events and audit."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated

import msgspec
from litestar import Controller, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from gateway.admin.context import AdminContext, Context, stream
from gateway.admin.documented import REFUSALS, STREAM_REFUSALS
from gateway.admin.records import AuditList, audit_view
from gateway.admin.views import EventList, event_view
from registry.errors import UnavailableError
from registry.state import Event

EVENTS_MAX = 1000
_POLL_S = 0.3
_KEEPALIVE_S = 15.0
_NDJSON = "application/x-ndjson"
LISTED = ResponseSpec(EventList, description="Without follow", generate_examples=False)

OptionalAfter = Annotated[
    int | None,
    QueryParameter(
        ge=0, le=2**62, description="only what came after this id; without it the newest"
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=EVENTS_MAX)]


class HistoryController(Controller):
    path = "/admin/v1"
    tags = ("history",)

    @get(
        "/events",
        operation_id="listEvents",
        responses={200: LISTED, **STREAM_REFUSALS},
        description="With follow=true a stream, one JSON object a line; blank lines keep it open.",
    )
    async def list_events(
        self,
        *,
        ctx: Context,
        after: OptionalAfter = None,
        model: FromQuery[str | None] = None,
        limit: Limit = 500,
        follow: FromQuery[bool] = False,
    ) -> Response[EventList] | Stream:
        events = await _read(ctx, after, model, limit)
        if follow:
            ctx.followers.check()
            return stream(_follow(ctx, events, after or 0, model), _NDJSON)
        last_id = events[-1].id if events else after or 0
        return Response(EventList(items=tuple(map(event_view, events)), last_id=last_id))

    @get("/audit", operation_id="listAudit", responses=REFUSALS)
    async def list_audit(
        self, ctx: Context, after: OptionalAfter = None, limit: Limit = 500
    ) -> AuditList:
        entries = await ctx.store.audit(after=after or 0, limit=limit, newest=after is None)
        last_id = entries[-1].id if entries else after or 0
        return AuditList(items=tuple(map(audit_view, entries)), last_id=last_id)


async def _read(
    ctx: AdminContext, after: int | None, model: str | None, limit: int
) -> tuple[Event, ...]:
    """Oldest first: the first *limit* after an id, or the newest *limit* of all."""
    events = await ctx.store.events(
        after=after or 0, model=model, limit=limit, newest=after is None
    )
    return tuple(sorted(events, key=lambda event: event.id))


async def _follow(
    ctx: AdminContext, events: tuple[Event, ...], after: int, model: str | None
) -> AsyncGenerator[bytes, None]:
    with ctx.followers.one():
        last_id, seen, idle_s = after, -1, 0.0
        while True:
            for event in events:
                yield msgspec.json.encode(event_view(event)) + b"\n"
                last_id, idle_s = event.id, 0.0
            if len(events) < EVENTS_MAX:
                await asyncio.sleep(_POLL_S)
                idle_s += _POLL_S
            if idle_s >= _KEEPALIVE_S:
                yield b"\n"
                idle_s = 0.0
            events = ()
            with suppress(UnavailableError):  # the next poll asks again
                version = await ctx.store.version()
                if version != seen:
                    events = await ctx.store.events(after=last_id, model=model, limit=EVENTS_MAX)
                    seen = version if len(events) < EVENTS_MAX else seen
