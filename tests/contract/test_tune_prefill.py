"""Measuring prefill on an emulator whose saturation is known: time(T) = 0.4 s + T / 1,000."""

import asyncio
import random

import httpx
import pytest
from fleets import a_snapshot, disaggregated, external, unified, with_spec, workers_of
from measured_world import answering, hold
from msgspec.structs import replace

from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.server import Running, serve
from pipelines.probe import probe_client
from pipelines.tuning.knee import knee
from pipelines.tuning.least_busy import Noted
from pipelines.tuning.prefill import Began, Measured, Swept, Wish, sweep
from pipelines.tuning.subject import (
    Subject,
    TuneError,
    prefilling,
    subject_of,
    with_batch,
)
from registry.spec import Role
from registry.state import Phase

FAST = Options(model="m", max_model_len=1024)
SLOWED = replace(FAST, ttft_ms=400, prefill_tokens_per_s=1_000)
SIZES = (64, 256, 1024, 2048)


def subject(*emulators: Running, model=None, snapshot_of=None) -> Subject:
    model = model or unified("m", workers=max(1, len(emulators)))
    workers = snapshot_of if snapshot_of is not None else workers_of(model)
    live = answering(workers, emulators)
    return subject_of(a_snapshot(models=[model], workers=live), "m", "", prefilling)


async def steps(of: Subject, **wish) -> list:
    async with probe_client() as client:
        asked = Wish(**{"tokens": SIZES, "seconds": 6, **wish})
        return [step async for step in sweep(client, of, asked, random.Random(1))]


async def test_the_knee_of_a_known_engine_is_found():
    sizes = (64, 256, 1024)
    async with serve(SLOWED) as emulator:
        seen = await steps(subject(emulator), tokens=sizes, seconds=10)

    assert isinstance(seen[0], Began)
    assert seen[0].tokens == sizes
    swept = seen[-1]
    assert isinstance(swept, Swept)
    assert [point.tokens for point in swept.points] == list(sizes)
    assert all(point.rounds >= 1 for point in swept.points)
    # 138, 390 and 719 tokens/s: only the last has 90 % of the best, the one before it 54 %.
    assert not knee(swept.points).reached
    assert knee(swept.points, share=0.4).tokens == 256
    made = {step.tokens: step.prompts for step in seen if isinstance(step, Measured)}
    assert made == {64: 1, 256: 4, 1024: 8}
    mid = swept.points[1]
    assert mid.throughput == pytest.approx(390, rel=0.3)
    # Of its four prompts the first waits for a quarter of the work, the last for all of it.
    assert 0.45 < mid.ttft_s < 0.97 * 256 / mid.throughput


async def test_every_prompt_is_another_one(monkeypatch):
    asked: list[tuple[int, ...]] = []

    async def note(_client, _worker, prompt, _tokens, _timeout_s) -> None:
        asked.append(tuple(prompt))

    monkeypatch.setattr("pipelines.tuning.prefill.answered", note)
    async with serve(FAST) as emulator:
        await steps(subject(emulator), seconds=5)

    assert len({prompt[:8] for prompt in asked}) == len(asked) > 20


async def test_the_only_worker_that_serves_is_left_alone_while_it_is_busy():
    async with serve(FAST) as emulator:
        held = await hold(emulator)
        with pytest.raises(TuneError, match="is the only unified worker that is ready"):
            await steps(subject(emulator))

        seen = await steps(subject(emulator), force=True, seconds=1)

        notes = " ".join(step.message for step in seen if isinstance(step, Noted))
        assert "has 1 requests of others" in notes
        assert "served others after" in notes
        held.cancel()


async def test_of_several_workers_the_least_busy_one_is_measured():
    async with serve(FAST) as busy, serve(FAST) as idle:
        held = await hold(busy)

        seen = await steps(subject(busy, idle), seconds=1)

        assert seen[0].worker == "w1"
        assert not any("others" in step.message for step in seen if isinstance(step, Noted))
        held.cancel()


async def test_who_stops_reading_stops_the_measurement():
    async with serve(replace(FAST, ttft_ms=30_000)) as emulator, probe_client() as client:
        of = sweep(client, subject(emulator), Wish(tokens=SIZES), random.Random(1))
        reading = asyncio.create_task(anext(aiter_of(of, 4)))
        await asyncio.sleep(0.5)
        assert emulator.engine.batch.running > 0
        reading.cancel()
        await asyncio.sleep(0.3)
        assert emulator.engine.batch.running == 0


async def aiter_of(found, number: int):
    """Behind the first *number* items."""
    for _ in range(number):
        await anext(found)
    yield None


async def test_what_the_spec_or_the_model_bounds_is_not_measured():
    bound = unified("m", args={"max-num-batched-tokens": 256})
    async with serve(FAST) as emulator:
        seen = await steps(subject(emulator, model=bound), seconds=1)
        with pytest.raises(TuneError, match="less than 2 batches"):
            await steps(subject(emulator, model=bound), tokens=(256, 512))
    async with serve(replace(FAST, max_model_len=40)) as emulator:
        short = await steps(subject(emulator), seconds=1)

    assert seen[0].tokens == (64, 256)
    assert any("is 256, what is above is split" in step.message for step in seen[1:3])
    assert short[0].tokens == (64, 256, 1024)
    assert any("prompts of 40 tokens at most" in s.message for s in short if isinstance(s, Noted))


async def test_an_engine_that_refuses_is_said_to():
    async with serve(FAST) as emulator:
        async with httpx.AsyncClient(base_url=emulator.url) as http:
            await http.post("/fault", json={"kind": "status", "status": 503, "count": -1})
        with pytest.raises(TuneError, match="503"):
            await steps(subject(emulator))
    with pytest.raises(TuneError, match="metrics cannot be read"):
        await steps(subject(emulator))


def test_whose_prefill_can_be_measured():
    pair = disaggregated("m", prefill=2, engine="vllm")
    found = subject_of(
        a_snapshot(models=[pair], workers=workers_of(pair)), "m", "default", prefilling
    )
    assert (found.role, [w.plan.ordinal for w in found.workers]) == (Role.PREFILL, [0, 1])

    for model, workers, why in (
        (pair, workers_of(pair, Phase.STARTING), "no prefill worker of m"),
        (disaggregated("m", engine="sglang"), None, "answers only together with decode"),
        (external("m", urls=["http://x:1"]), None, "is external"),
        (with_spec(unified("m"), task="embed"), None, "is for embed"),
        (unified("other"), None, "no model named 'm'"),
    ):
        live = workers_of(model) if workers is None else workers
        with pytest.raises(TuneError, match=why):
            subject_of(a_snapshot(models=[model], workers=live), "m", "", prefilling)
    with pytest.raises(TuneError, match="allowed is one of default"):
        subject_of(a_snapshot(models=[pair], workers=workers_of(pair)), "m", "none", prefilling)


def test_the_answer_changes_the_flag_of_the_role_that_was_measured_and_nothing_else():
    def args_of(model) -> dict:
        of = subject_of(a_snapshot(models=[model], workers=workers_of(model)), "m", "", prefilling)
        changed = with_batch(of, 512)
        assert changed != model.spec
        topology, before = changed.variants[0].topology, model.spec.variants[0].topology
        if hasattr(topology, "prefill"):
            assert replace(topology, prefill=before.prefill) == before
            return topology.prefill.args
        assert replace(topology, args=before.args) == before
        return topology.args

    many = {"max-num-seqs": 1024, "enforce-eager": True}
    assert args_of(unified("m", engine="vllm", args=many)) == {
        "max-num-seqs": 512,  # vLLM does not start with more sequences than tokens
        "enforce-eager": True,
        "max-num-batched-tokens": 512,
    }
    few = {"max-num-seqs": 16, "max-num-batched-tokens": 4096}
    assert args_of(unified("m", engine="vllm", args=few)) == few | {"max-num-batched-tokens": 512}
    assert args_of(disaggregated("m", engine="vllm")) == {"max-num-batched-tokens": 512}
    assert args_of(unified("m", engine="sglang")) == {"chunked-prefill-size": 512}
    assert args_of(unified("m")) == {"max-num-batched-tokens": 512}
