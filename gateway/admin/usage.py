"""Routes of usage: sums, and the single requests as CSV."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

from litestar import Controller, get
from litestar.params import QueryParameter
from litestar.response import Stream

from gateway.admin.bodies import query_time
from gateway.admin.context import AdminContext, Context, stream
from gateway.admin.documented import REFUSALS, STREAM_REFUSALS
from gateway.admin.records import UsageList, usage_view
from gateway.admin.usage_csv import HEADER, MEDIA_TYPE, csv_lines
from registry.usage import UsageBy, UsageFilter, UsageLine

ROWS_PER_PAGE = 1_000
_ROWS_AT_ONCE = 100  # inference may run in this event loop: so many take a millisecond of it

Since = Annotated[
    str | None, QueryParameter(description="only what ended then or later: a day (UTC), or a time")
]
Until = Annotated[str | None, QueryParameter(description="only what ended before: a day or a time")]
KeyId = Annotated[str, QueryParameter(name="key", description="only this key's (its id)")]
ModelOnly = Annotated[str, QueryParameter(description="only this model's")]
By = Annotated[
    list[UsageBy] | None,
    QueryParameter(max_items=len(UsageBy), description="what sums are told apart by; repeat it"),
]


class UsageController(Controller):
    path = "/admin/v1"
    tags = ("usage",)

    @get(
        "/usage",
        operation_id="readUsage",
        responses=REFUSALS,
        description="Sums by key and model, or by what `by` says; a day is one of UTC.",
    )
    async def read_usage(
        self,
        *,
        ctx: Context,
        since: Since = None,
        until: Until = None,
        key_id: KeyId = "",
        model: ModelOnly = "",
        by: By = None,
    ) -> UsageList:
        which = _filter(since, until, key_id, model)
        apart = tuple(dict.fromkeys(by or (UsageBy.KEY, UsageBy.MODEL)))
        totals = await ctx.store.usage(which, by=apart)
        names = await ctx.store.key_names() if UsageBy.KEY in apart else {}
        return UsageList(items=tuple(usage_view(total, names) for total in totals))

    @get(
        "/usage.csv",
        operation_id="exportUsage",
        media_type=MEDIA_TYPE,
        responses=STREAM_REFUSALS,
        description="One line a request, in the order they ended, up to now. An answer that is cut "
        "off is not whole: its connection ends without the last chunk.",
    )
    async def export_usage(
        self,
        *,
        ctx: Context,
        since: Since = None,
        until: Until = None,
        key_id: KeyId = "",
        model: ModelOnly = "",
    ) -> Stream:
        ctx.followers.check()
        # Up to now, so that it ends even where requests come faster than they are read.
        which = _filter(since, until, key_id, model, latest=ctx.clock())
        names = await ctx.store.key_names()
        page = await ctx.store.usage_page(which, limit=ROWS_PER_PAGE)
        headers = {"Content-Disposition": 'attachment; filename="usage.csv"'}
        return stream(_export(ctx, which, page, names), MEDIA_TYPE, headers)


def _filter(
    since: str | None, until: str | None, key_id: str, model: str, *, latest: float | None = None
) -> UsageFilter:
    """Raises BadRequestError."""
    begins, ends = query_time("since", since), query_time("until", until)
    bounds = [end for end in (ends, latest) if end is not None]
    return UsageFilter(
        **({} if begins is None else {"since": begins}),
        **({"until": min(bounds)} if bounds else {}),
        key_id=key_id,
        model=model,
    )


async def _export(
    ctx: AdminContext,
    which: UsageFilter,
    page: tuple[UsageLine, ...],
    names: dict[str, str],
) -> AsyncGenerator[bytes, None]:
    with ctx.followers.one():
        yield HEADER
        while page:
            for start in range(0, len(page), _ROWS_AT_ONCE):
                yield csv_lines(page[start : start + _ROWS_AT_ONCE], names)
                await asyncio.sleep(0)
            if len(page) < ROWS_PER_PAGE:
                return
            page = await ctx.store.usage_page(which, after=page[-1].place, limit=ROWS_PER_PAGE)
