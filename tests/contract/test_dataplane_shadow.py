"""Shadow variants: copies that nobody waits for, whose answers reach nobody."""

import asyncio
import contextlib

import msgspec
import pytest
from gateway_world import (
    AGGREGATED,
    DISAGGREGATED,
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_key,
    a_table,
    closed_port_url,
    completion,
    good,
)

from gateway.proxy import shadow as shadows
from registry.state import KeyLimits


def a_shadowed(*, percent=100.0, topology=None, **spec):
    variants = [
        {"name": "real", "engine": "emulator", "topology": AGGREGATED},
        {
            "name": "shadow",
            "weight": 0,
            "shadow_percent": percent,
            "engine": "emulator",
            "topology": topology or AGGREGATED,
        },
    ]
    return a_declared(variants=variants, **spec)


def of_variant(model, name, **urls):
    """Ready workers of one variant."""
    (variant,) = (each for each in model.spec.variants if each.name == name)
    variant = msgspec.structs.replace(variant, weight=1, shadow_percent=0.0)
    spec = msgspec.structs.replace(model.spec, variants=(variant,))
    lone = msgspec.structs.replace(model, spec=spec)
    return [
        msgspec.structs.replace(worker, id=f"{name}-{worker.id}")
        for worker in a_fleet(lone, **urls)
    ]


@contextlib.asynccontextmanager
async def a_gateway(shadow=good, *, model=None, keys=None, real=good):
    """With one worker of each variant."""
    model = model or a_shadowed()
    async with FakeWorker(real) as worker, FakeWorker(shadow) as copier, Gateway() as gateway:
        fleet = of_variant(model, "real", unified=[worker.url])
        fleet += of_variant(model, "shadow", unified=[copier.url])
        gateway.plane.table = a_table(models=[model], workers=fleet, keys=keys)
        gateway.real, gateway.shadow = worker, copier
        yield gateway


async def settled(gateway):
    async with asyncio.timeout(5):
        while gateway.plane.shadows.active:  # noqa: ASYNC110 - it has no event for that
            await asyncio.sleep(0.01)


def outcomes(gateway, outcome):
    labels = {"model": "m", "variant": "shadow", "outcome": outcome}
    return gateway.sample("modelyard_shadow_requests_total", **labels)


def traffic(gateway):
    rows = gateway.plane.signals.traffic("g", 0.0, all_of_it=True)
    return {row.variant: row for row in rows}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_copy_is_the_same_request_and_its_answer_goes_nowhere(stream):
    async def tell(call):
        if call.json.get("stream"):
            await good(call)
        else:
            await call.answer(body=completion("from the shadow"))

    async with a_gateway(tell) as gateway:
        answer = await gateway.post(stream=stream, max_tokens=3)
        await settled(gateway)
        assert answer.status_code == 200
        assert "from the shadow" not in answer.text
        assert answer.headers["x-modelyard-variant"] == "real"
        assert [call.json for call in gateway.shadow.calls] == [
            call.json for call in gateway.real.calls
        ]
        assert outcomes(gateway, "ok") == 1
        rows = traffic(gateway)
    assert rows["shadow"].requests == rows["real"].requests == 1
    assert rows["shadow"].completion_tokens == rows["real"].completion_tokens > 0
    assert rows["shadow"].ttft.total == rows["real"].ttft.total == stream


async def test_a_shadow_that_hangs_delays_nobody_and_the_end_cuts_it():
    asked = asyncio.Event()

    async def hang(call):
        asked.set()
        await call.until_closed()

    async with a_gateway(hang) as gateway:
        async with asyncio.timeout(3):
            assert (await gateway.post()).status_code == 200
            await asked.wait()
        assert gateway.plane.shadows.active == 1
        await gateway.plane.shadows.aclose()
        assert gateway.plane.shadows.active == 0
        assert outcomes(gateway, "cancelled") == 1


@pytest.mark.parametrize("status", [500, 503, 400])
async def test_a_shadow_that_fails_fails_nobody(status):
    async def fail(call):
        await call.answer(status, {"error": {"message": "no", "type": "x"}})

    async with a_gateway(fail) as gateway:
        assert (await gateway.post()).status_code == 200
        await settled(gateway)
        assert outcomes(gateway, "refused" if status == 400 else "error") == 1
        assert len(gateway.shadow.calls) == 1, "one try"
        row = traffic(gateway)["shadow"]
        assert (row.requests, row.errors) == (1, status >= 500)


async def test_a_copy_is_no_usage_and_counts_for_no_limit():
    key = a_key(limits=KeyLimits(requests_per_minute=2))
    async with a_gateway(keys=(key,)) as gateway:
        for expected in (200, 200, 429):
            assert (await gateway.post()).status_code == expected
        await settled(gateway)
        assert outcomes(gateway, "ok") == 2
        assert [record.variant for record in await gateway.usage()] == ["real", "real"]
        assert gateway.sample("modelyard_requests_total", variant="real") == 2
        assert gateway.sample("modelyard_requests_total", variant="shadow") is None


async def test_a_busy_shadow_gets_no_more_than_its_workers_may_have():
    release = asyncio.Event()

    async def hold(call):
        await release.wait()
        await good(call)

    model = a_shadowed(limits={"in_flight_per_worker": 1})
    async with a_gateway(hold, model=model) as gateway:
        for _ in range(3):
            assert (await gateway.post()).status_code == 200
        release.set()
        await settled(gateway)
        assert (outcomes(gateway, "ok"), outcomes(gateway, "busy")) == (1, 2)
        assert len(gateway.shadow.calls) == 1


async def test_copies_at_once_are_bounded(monkeypatch):
    monkeypatch.setattr(shadows, "COPIES_MAX", 2)
    release = asyncio.Event()

    async def hold(call):
        await release.wait()
        await good(call)

    async with a_gateway(hold) as gateway:
        for _ in range(5):
            assert (await gateway.post()).status_code == 200
        assert gateway.plane.shadows.active == 2
        release.set()
        await settled(gateway)
        assert (outcomes(gateway, "ok"), outcomes(gateway, "busy")) == (2, 3)


async def test_a_percentage_of_the_requests_is_copied():
    async with a_gateway(model=a_shadowed(percent=25.0)) as gateway:
        draws = iter([0.249, 0.25, 0.0, 0.9])
        gateway.plane.shadows._random = lambda: next(draws)
        for _ in range(4):
            await gateway.post()
        await settled(gateway)
        assert outcomes(gateway, "ok") == 2


async def test_a_shadow_is_no_substitute():
    """Not even when all others have failed."""
    model = a_shadowed()
    async with FakeWorker(good) as copier, Gateway() as gateway:
        fleet = of_variant(model, "real", unified=[closed_port_url()])
        fleet += of_variant(model, "shadow", unified=[copier.url])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        assert (await gateway.post()).status_code == 503
        await settled(gateway)
        gateway.plane.table = a_table(models=[model], workers=fleet[1:])
        assert (await gateway.post()).status_code == 503


@pytest.mark.parametrize("stream", [False, True])
async def test_a_shadow_may_be_a_pair(stream):
    model = a_shadowed(topology=DISAGGREGATED)
    async with (
        FakeWorker(good) as worker,
        FakeWorker(good) as prefill,
        FakeWorker(good) as decode,
        Gateway() as gateway,
    ):
        fleet = of_variant(model, "real", unified=[worker.url])
        fleet += of_variant(model, "shadow", prefill=[prefill.url], decode=[decode.url])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        assert (await gateway.post(stream=stream)).status_code == 200
        await settled(gateway)
        assert outcomes(gateway, "ok") == 1
        assert len(prefill.calls) == len(decode.calls) == 1
        assert traffic(gateway)["shadow"].paired == 1


async def test_a_shadow_without_workers_costs_nothing():
    model = a_shadowed()
    async with FakeWorker(good) as worker, Gateway() as gateway:
        fleet = of_variant(model, "real", unified=[worker.url])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        assert gateway.plane.table.models["m"].shadows == ()
        assert (await gateway.post()).status_code == 200
        assert gateway.plane.shadows.active == 0


async def test_a_client_that_leaves_cuts_no_copy():
    async def hang(call):
        await call.until_closed()

    async with a_gateway(real=hang) as gateway:
        request = asyncio.create_task(gateway.post())
        async with asyncio.timeout(5):
            while not gateway.real.calls:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        request.cancel()
        await settled(gateway)
        assert outcomes(gateway, "ok") == 1
