"""Routes that measure how an engine is best set, and propose it."""

import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import msgspec
from litestar import Controller, post
from litestar.params import FromPath, RawBody
from litestar.response import Stream

from gateway.admin.bodies import decode_optional
from gateway.admin.context import AdminContext, AdminRequest, Context, stream
from gateway.admin.documented import STREAM_REFUSALS, TakesTunePrefill
from gateway.admin.errors import TooManyError
from gateway.admin.tuning_bodies import TunePrefillBody
from pipelines.tuning.knee import Knee, Point, knee
from pipelines.tuning.prefill import ROUNDS_MIN, Step, Swept, Wish, sweep
from pipelines.tuning.subject import Subject, TuneError, prefilling, subject_of, with_batch
from registry.errors import RegistryError
from registry.state import Principal


class TunedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """*of_best* is its throughput's share of the best; *knee*: it is what suffices."""

    tokens: int
    throughput: float
    ttft_s: float
    rounds: int
    of_best: float
    knee: bool


class Tuned(msgspec.Struct, frozen=True, kw_only=True, tag="tuned", tag_field="kind"):
    """The last line: what was measured, and the *proposal* that came of it, "" for none;
    *message* says why.
    """

    model: str
    variant: str
    role: str
    worker: str
    flag: str
    points: tuple[TunedPoint, ...]
    proposal: str
    message: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed", tag_field="kind"):
    """The last line where it could not be measured."""

    message: str


class TuningController(Controller):
    path = "/admin/v1"
    tags = ("proposals",)

    @post(
        "/models/{name:str}/tune-prefill",
        operation_id="tunePrefill",
        operation_class=TakesTunePrefill,
        responses=STREAM_REFUSALS,
        status_code=200,
        media_type="application/x-ndjson",
        description="Measures throughput and time to the first token over batched prompt tokens on "
        "a ready worker, and proposes the smallest batch that saturates it. A stream, one JSON "
        "object a line, told apart by `kind`: began, noted, measured, then tuned or failed. It "
        "ends when the client goes.",
    )
    async def tune_prefill(
        self, ctx: Context, request: AdminRequest, name: FromPath[str], body: RawBody
    ) -> Stream:
        wish = decode_optional(body, TunePrefillBody)
        await ctx.store.model(name)
        ctx.tuners.check()
        steps = _steps(ctx, name, wish.variant, wish.wish(), request.auth)
        return stream(measured_lines(ctx, steps), "application/x-ndjson")


async def measured_lines(
    ctx: AdminContext, steps: AsyncGenerator[msgspec.Struct, None]
) -> AsyncGenerator[bytes, None]:
    """*steps* of a measurement, of which there is one at a time; if it fails, the last line says
    why.
    """
    try:
        ctx.tuners.check()  # again: another one may have begun since
        with ctx.tuners.one():
            async with aclosing(steps):
                async for step in steps:
                    yield _line(step)
    except (TuneError, RegistryError, TooManyError) as error:
        yield _line(Failed(message=str(error)))


def _line(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value) + b"\n"


async def _steps(
    ctx: AdminContext, name: str, variant: str, wish: Wish, by: Principal
) -> AsyncGenerator[msgspec.Struct, None]:
    subject = subject_of(await ctx.snapshots.newest(), name, variant, prefilling)
    rng = random.Random()  # noqa: S311 - prompts that no cache knows, not secrets
    steps = cast("AsyncGenerator[Step, None]", sweep(ctx.probe, subject, wish, rng))
    async with aclosing(steps):
        async for step in steps:
            yield await _tuned(ctx, subject, step, by) if isinstance(step, Swept) else step


async def _tuned(ctx: AdminContext, subject: Subject, swept: Swept, by: Principal) -> Tuned:
    found = knee(swept.points)
    at = next(point for point in swept.points if point.tokens == found.tokens)
    said = (
        f"batches of {found.tokens} prompt tokens give {at.throughput / found.best:.0%} of the "
        f"best throughput ({at.throughput:.0f} of {found.best:.0f} tokens/s), with a mean time to "
        f"the first token of {at.ttft_s:.3f} s"
    )
    proposal = ""
    if min(point.rounds for point in swept.points) < ROUNDS_MIN:
        said += "; but not all sizes were measured twice after the warm-up: give it more seconds"
    elif not found.reached:
        said += "; it still grows there: measure larger batches before you change anything"
    elif subject.bound == found.tokens:
        said += f": its {subject.flag} is so already"
    else:
        reason = f"{subject.role} of variant {subject.variant.name}: {said}; seen on {swept.worker}"
        made = await ctx.store.propose(
            with_batch(subject, found.tokens),
            base_revision=subject.model.revision,
            reason=reason,
            by=by,
        )
        proposal = made.id
    return Tuned(
        model=subject.model.name,
        variant=subject.variant.name,
        role=subject.role.value,
        worker=swept.worker,
        flag=subject.flag,
        points=tuple(_view(point, found) for point in swept.points),
        proposal=proposal,
        message=said,
    )


def _view(point: Point, found: Knee) -> TunedPoint:
    return TunedPoint(
        tokens=point.tokens,
        throughput=round(point.throughput, 1),
        ttft_s=round(point.ttft_s, 4),
        rounds=point.rounds,
        of_best=round(point.throughput / found.best, 3),
        knee=point.tokens == found.tokens,
    )
