"""Routes of measured step times: how fast the engines of this fleet are, for the planner."""

import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import msgspec
from litestar import Controller, delete, get, post
from litestar.params import FromPath, RawBody
from litestar.response import Stream

from gateway.admin.bodies import decode_optional
from gateway.admin.context import AdminContext, AdminRequest, Context, stream
from gateway.admin.documented import REFUSALS, STREAM_REFUSALS, WRITE_REFUSALS, TakesMeasure
from gateway.admin.tuning import measured_lines
from gateway.admin.tuning_bodies import MeasureBody
from gateway.admin.views import View, iso
from pipelines.planner.fit import Fit, fit
from pipelines.probe import probe_client
from pipelines.tuning.profiles import held_by, profile_of, stepping
from pipelines.tuning.steps import Seen, Step, Wish, measure
from pipelines.tuning.subject import subject_of
from registry.state import Principal, Profile, StoredProfile


class ProfileView(View, frozen=True, kw_only=True):
    """*profile* is what was measured, *fit* the step times that the planner makes of it."""

    id: str
    model: str
    variant: str
    runtime: str
    measured_at: str
    measured_by: str
    profile: Profile
    fit: Fit


class ProfileList(View, frozen=True, kw_only=True):
    items: tuple[ProfileView, ...]


class Profiled(msgspec.Struct, frozen=True, kw_only=True, tag="profiled", tag_field="kind"):
    """The last line: what is kept."""

    worker: str
    kept: ProfileView


class ProfileController(Controller):
    path = "/admin/v1"
    tags = ("plans",)

    @post(
        "/models/{name:str}/measure",
        operation_id="measure",
        operation_class=TakesMeasure,
        responses=STREAM_REFUSALS,
        status_code=200,
        media_type="application/x-ndjson",
        description="Gives a ready worker loads of prompts and of answers, and keeps how long its "
        "steps take, for the planner. A stream, one JSON object a line, told apart by `kind`: "
        "began, noted, measured, then profiled or failed. It ends when the client goes.",
    )
    async def measure(
        self, ctx: Context, request: AdminRequest, name: FromPath[str], body: RawBody
    ) -> Stream:
        wish = decode_optional(body, MeasureBody)
        await ctx.store.model(name)
        ctx.tuners.check()
        steps = _steps(ctx, name, wish.variant, wish.wish(), request.auth)
        return stream(measured_lines(ctx, steps), "application/x-ndjson")

    @get("/profiles", operation_id="listProfiles", responses=REFUSALS)
    async def list_profiles(self, ctx: Context) -> ProfileList:
        """Of each weights, engine, device model and count of devices the newest measurement."""
        return ProfileList(items=tuple(map(profile_view, await ctx.store.profiles())))

    @delete(
        "/profiles/{profile_id:str}",
        operation_id="deleteProfile",
        responses=WRITE_REFUSALS,
        status_code=200,
    )
    async def delete_profile(
        self, ctx: Context, request: AdminRequest, profile_id: FromPath[str]
    ) -> ProfileView:
        """The planner goes by its data again."""
        return profile_view(await ctx.store.delete_profile(profile_id, by=request.auth))


async def _steps(
    ctx: AdminContext, name: str, variant: str, wish: Wish, by: Principal
) -> AsyncGenerator[msgspec.Struct, None]:
    snapshot = await ctx.snapshots.newest()
    subject = subject_of(snapshot, name, variant, stepping)
    held = held_by(snapshot, subject.workers)
    rng = random.Random()  # noqa: S311 - prompts that no cache knows, not secrets
    # A client of its own: so many connections would hold up all other probes.
    async with probe_client() as client:
        steps = cast("AsyncGenerator[Step, None]", measure(client, subject, wish, rng))
        async with aclosing(steps):
            async for step in steps:
                if not isinstance(step, Seen):
                    yield step
                    continue
                kept = await ctx.store.put_profile(
                    profile_of(subject, held[step.worker.id], step),
                    model=name,
                    variant=subject.variant.name,
                    runtime=step.worker.runtime,
                    by=by,
                )
                yield Profiled(worker=step.worker.id, kept=profile_view(kept))


def profile_view(stored: StoredProfile) -> ProfileView:
    return ProfileView(
        id=stored.id,
        model=stored.model,
        variant=stored.variant,
        runtime=stored.runtime,
        measured_at=iso(stored.measured_at),
        measured_by=stored.measured_by,
        profile=stored.profile,
        fit=fit(stored.profile),
    )
