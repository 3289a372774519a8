"""Measuring the steps of an emulator: a prompt takes 0.1 s + T / 5,000, a token 20 ms."""

import asyncio
import random

import httpx
import pytest
from fleets import a_snapshot, disaggregated, external, unified, with_spec, workers_of
from measured_world import answering, hold
from msgspec.structs import replace

from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.server import Running, serve
from pipelines.planner.fit import fit
from pipelines.probe import probe_client
from pipelines.tuning.least_busy import Noted
from pipelines.tuning.loads import Load, loads
from pipelines.tuning.profiles import held_by, profile_of, stepping
from pipelines.tuning.steps import Began, Measured, Seen, Wish, measure
from pipelines.tuning.subject import Subject, TuneError, subject_of
from registry.state import Claim, Device, DeviceKind, Snapshot

FAST = Options(model="m", max_model_len=1024, tpot_ms=5)
PACED = replace(FAST, ttft_ms=100, tpot_ms=20, prefill_tokens_per_s=5_000)
LATE = 2.0  # times what it was told to take: a busy machine


def world_of(*emulators: Running, **changes) -> Snapshot:
    model = unified("m", workers=max(1, len(emulators)))
    if changes:
        model = with_spec(model, **changes)
    live = answering(workers_of(model), emulators)
    devices = [
        Device(
            id="n/cpu0", node="n", index=0, kind=DeviceKind.CPU, model="x86_64", memory_bytes=2**30
        )
    ]
    claims = [Claim(worker_id=one.id, device_id="n/cpu0", memory_bytes=2**28) for one in live]
    made = a_snapshot(models=[model], workers=live)
    return replace(made, devices=tuple(devices), claims=tuple(claims))


def subject(snapshot: Snapshot) -> Subject:
    return subject_of(snapshot, "m", "", stepping)


async def steps(of: Subject, **wish) -> list:
    async with probe_client() as client:
        return [
            step
            async for step in measure(client, of, Wish(**{"seconds": 8, **wish}), random.Random(1))
        ]


async def test_the_steps_of_a_known_engine_are_found():
    async with serve(PACED) as emulator:
        snapshot = world_of(emulator)
        of = subject(snapshot)
        began, *_, seen = await steps(of)

    assert isinstance(began, Began)
    assert isinstance(seen, Seen)
    assert (seen.kv_tokens, seen.is_kv_told) == (4096 * 16, True)
    profile = profile_of(of, held_by(snapshot, of.workers)["w0"], seen)
    assert (profile.source, profile.engine) == ("file:///nowhere", "emulator")
    assert (profile.device_model, profile.devices) == ("x86_64", 1)
    assert profile.memory_bytes == 2**28
    answered = [point for point in profile.points if point.answer_tokens > 1]
    assert max(point.requests for point in answered) == 64
    assert all(0.018 < point.seconds < 0.020 * LATE for point in answered)
    found = fit(profile)
    assert 0.015 < found.step_s(0, 0, 8, 500) < 0.020 * LATE
    longer_s = found.step_s(256, 256, 0, 0) - found.step_s(64, 64, 0, 0)
    assert longer_s == pytest.approx((256 - 64) / 5_000, rel=0.5)


async def test_a_cache_that_is_not_told_is_as_large_as_what_it_held(monkeypatch):
    monkeypatch.setattr("pipelines.engines.nixl_protocol._kv_tokens", lambda _text: 0)
    async with serve(FAST) as emulator:
        *_, seen = await steps(subject(world_of(emulator)), seconds=4)

    assert not seen.is_kv_told
    held = max(p.requests * (p.prompt_tokens + p.answer_tokens) for p in seen.points)
    assert seen.kv_tokens == held


async def test_loads_whose_answers_do_not_overlap_are_left_out_and_said(monkeypatch):
    few = (Load(1, 64, 1), Load(1, 256, 1), Load(1, 32, 32), Load(2, 32, 32), Load(8, 32, 32))
    monkeypatch.setattr("pipelines.tuning.steps.loads", lambda **_: few)
    async with serve(replace(FAST, max_num_seqs=4)) as emulator:
        *noted, seen = await steps(subject(world_of(emulator)), seconds=3)

    assert max(point.requests for point in seen.points) == 2
    said = [step.message for step in noted if isinstance(step, Noted)]
    assert any("without 8x 32+32" in note and "not answered together" in note for note in said)


async def test_a_load_that_takes_too_long_is_left_out_and_the_rest_measured(monkeypatch):
    few = (Load(1, 64, 1), Load(1, 16, 24), Load(2, 16, 24), Load(1, 128, 1), Load(1, 900, 1))
    monkeypatch.setattr("pipelines.tuning.steps.loads", lambda **_: few)
    monkeypatch.setattr("pipelines.tuning.steps._LOAD_S_MAX", 1.0)
    async with serve(replace(FAST, prefill_tokens_per_s=500)) as emulator:
        *noted, seen = await steps(subject(world_of(emulator)), seconds=4)

    assert {point.prompt_tokens for point in seen.points} == {16, 64, 128}
    said = [step.message for step in noted if isinstance(step, Noted)]
    assert any("without 1x 900+1" in note and "not in time" in note for note in said)


async def test_too_little_time_is_said():
    async with serve(replace(FAST, ttft_ms=300)) as emulator:
        with pytest.raises(TuneError, match="needed are 2 of each: give it more seconds"):
            await steps(subject(world_of(emulator)), seconds=0.4)


async def test_the_only_worker_that_serves_is_left_alone_while_it_is_busy():
    async with serve(FAST) as emulator:
        held = await hold(emulator)
        with pytest.raises(TuneError, match="is the only unified worker that is ready"):
            await steps(subject(world_of(emulator)))

        seen = await steps(subject(world_of(emulator)), force=True, seconds=3)

        notes = " ".join(step.message for step in seen if isinstance(step, Noted))
        assert "served others after" in notes
        held.cancel()


async def test_who_stops_reading_stops_the_measurement():
    async with serve(replace(FAST, ttft_ms=30_000)) as emulator, probe_client() as client:
        of = measure(client, subject(world_of(emulator)), Wish(), random.Random(1))
        assert isinstance(await anext(of), Began)

        async def go_on() -> None:
            while not isinstance(await anext(of), Measured):
                pass

        reading = asyncio.create_task(go_on())
        await asyncio.sleep(0.5)
        assert emulator.engine.batch.running > 0
        reading.cancel()
        await asyncio.sleep(0.3)
        assert emulator.engine.batch.running == 0


async def test_an_engine_that_refuses_is_said_to():
    async with serve(FAST) as emulator:
        async with httpx.AsyncClient(base_url=emulator.url) as http:
            await http.post("/fault", json={"kind": "status", "status": 503, "count": -1})
        with pytest.raises(TuneError, match="503"):
            await steps(subject(world_of(emulator)))


def test_whose_steps_can_be_measured():
    for model, why in (
        (disaggregated("m", engine="vllm"), "measure an aggregated variant"),
        (external("m", urls=["http://x:1"]), "is external"),
        (with_spec(unified("m"), task="embed"), "is for embed"),
        (unified("m", devices=2), "tensor_parallel 1 on 2 devices"),
    ):
        snapshot = a_snapshot(models=[model], workers=workers_of(model))
        with pytest.raises(TuneError, match=why):
            subject_of(snapshot, "m", "", stepping)
    model = unified("m")
    snapshot = a_snapshot(models=[model], workers=workers_of(model))
    with pytest.raises(TuneError, match="models of devices, needed is one"):
        held_by(snapshot, subject(snapshot).workers)


def test_no_load_is_more_than_a_probe_has_connections_for():
    every = loads(model_tokens_max=100_000, batched_tokens=0, kv_tokens=0)
    assert max(one.requests for one in every) <= 64
