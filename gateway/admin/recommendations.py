"""The route that asks the planner which topology each model should have.

The planner is a process of its own: it computes for a minute, and its libraries are an extra.
"""

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

import msgspec
from litestar import Controller, get, post
from litestar.params import QueryParameter, RawBody
from litestar.response import Stream

from gateway.admin.auth import FOR_VIEWERS
from gateway.admin.bodies import RecommendationBody, decode
from gateway.admin.context import AdminContext, Context, stream
from gateway.admin.documented import REFUSALS, STREAM_REFUSALS, TakesRecommendation
from gateway.admin.errors import TooManyError
from pipelines.parent import PARENT_VARIABLE
from pipelines.planner.live import Live, fleet_of, live
from pipelines.planner.views import Failed
from registry.errors import SpecError
from registry.usage import UsageBy, UsageFilter

PLAN_S_MAX = 900.0
LINE_BYTES_MAX = 16 * 1024 * 1024
GRACE_S = 2.0
SECONDS_DEFAULT, SECONDS_MAX = 3600, 30 * 86_400

Seconds = Annotated[
    int, QueryParameter(ge=60, le=SECONDS_MAX, description="how far back, in seconds")
]


class RecommendationController(Controller):
    path = "/admin/v1"
    tags = ("plans",)

    @get(
        "/recommendations/live",
        operation_id="readLive",
        responses=REFUSALS,
        description="The nodes that answer and what was asked of each model lately, in the form "
        "that a recommendation is asked for with.",
    )
    async def read_live(self, ctx: Context, seconds: Seconds = SECONDS_DEFAULT) -> Live:
        snapshot = await ctx.snapshots.newest()
        since = UsageFilter(since=time.time() - seconds)
        totals = await ctx.store.usage(since, by=(UsageBy.MODEL,))
        specs = {model.name: model.spec for model in snapshot.models}
        return live(snapshot.nodes, snapshot.devices, specs, totals, seconds)

    @post(
        "/recommendations",
        operation_id="recommend",
        operation_class=TakesRecommendation,
        responses=STREAM_REFUSALS,
        status_code=200,
        media_type="application/x-ndjson",
        opt=FOR_VIEWERS,
        description="Which topology each model should have, for this traffic, on this fleet or on "
        "the nodes that are there, by what was measured here where it was. A stream, one JSON "
        "object a line, told apart by `kind`: noted while it works, then planned or failed. It "
        "ends when the client goes.",
    )
    async def recommend(self, ctx: Context, body: RawBody) -> Stream:
        asked = decode(body, RecommendationBody)
        for number, model in enumerate(asked.traffic.models):
            if model.trace:
                raise SpecError(
                    f"traffic.models[{number}].trace", "is for the command line: leave it out"
                )
        fleet = asked.fleet
        if fleet is None:
            snapshot = await ctx.snapshots.newest()
            fleet = fleet_of(snapshot.nodes, snapshot.devices)
        if fleet is None:
            raise SpecError("fleet", "is missing, and there is no node that answers")
        ctx.planners.check()
        sources = {model.source for model in asked.traffic.models}
        profiles = [one for one in await ctx.store.profiles() if one.profile.source in sources]
        given = {
            "traffic": asked.traffic,
            "fleet": fleet,
            "profiles": {"items": [{"profile": one.profile} for one in profiles]},
        }
        words = ("--objective", asked.objective, "--seed", str(asked.seed))
        lines = _lines(ctx, msgspec.json.encode(given), words)
        return stream(lines, "application/x-ndjson")


async def _lines(
    ctx: AdminContext, given: bytes, words: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    try:
        ctx.planners.check()  # again: another one may have begun since
        with ctx.planners.one():
            async with asyncio.timeout(PLAN_S_MAX):
                async for line in _planner(given, words):
                    yield line
    except TooManyError as error:
        yield _line(Failed(message=str(error)))
    except TimeoutError:
        yield _line(Failed(message=f"the planner took over {PLAN_S_MAX:.0f} s: ask for less"))


async def _planner(given: bytes, words: Sequence[str] = ()) -> AsyncGenerator[bytes, None]:
    """Its lines; *words*: options of its own. It ends with whoever asks, and with this process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pipelines.planner", "--given", "-", "--output", "lines", *words),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        limit=LINE_BYTES_MAX,
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(given)
        process.stdin.close()
        last = b""
        async for line in process.stdout:
            last = line
            yield line
        if await process.wait() or not last:
            yield _line(Failed(message="the planner ended without an answer"))
    finally:
        await asyncio.shield(_end(process))


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    async with asyncio.timeout(GRACE_S):
        await process.wait()


def _line(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value) + b"\n"
