"""What a gateway collects of the requests that it really serves."""

import asyncio

import msgspec
import pytest
from gateway_world import (
    DISAGGREGATED,
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_gateway,
    a_pair,
    a_table,
    closed_port_url,
    good,
    token,
)


def traffic(gateway):
    """By variant: of all requests so far, once."""
    return {
        row.variant: row
        for row in gateway.plane.signals.traffic("g", 0.0, all_of_it=True)
        if row.model == "m"
    }


def demand(gateway):
    return gateway.plane.signals.demand("g", 0.0).get("m")


async def refuse(call):
    await call.answer(400, {"error": {"message": "no", "type": "invalid_request_error"}})


async def break_down(call):
    await call.answer(500)


async def break_off(call):
    await call.begin_stream()
    await call.chunk(token("a"))
    call.writer.transport.abort()


async def test_a_stream_leaves_its_times_and_tokens():
    async with a_gateway() as gateway:
        await gateway.post(stream=True)
        row = traffic(gateway)["default"]
    assert (row.requests, row.errors, row.paired) == (1, 0, 0)
    assert (row.prompt_tokens, row.completion_tokens) == (7, 3)
    assert (row.ttft.total, row.tpot.total, row.e2e.total) == (1, 1, 1)
    assert 0 < row.ttft.mean_s <= row.e2e.mean_s < 5
    assert row.revision == 3


async def test_an_answer_that_is_not_streamed_has_no_first_token():
    async with a_gateway() as gateway:
        await gateway.post()
        row = traffic(gateway)["default"]
    assert (row.requests, row.completion_tokens, row.ttft.total, row.tpot.total) == (1, 2, 0, 0)
    assert row.e2e.total == 1


async def test_a_pair_is_told_as_one():
    async with a_pair() as gateway:
        await gateway.post()
        row = traffic(gateway)["default"]
    assert (row.requests, row.paired) == (1, 1)


async def test_a_pair_whose_prefill_is_gone_is_not_one_any_more():
    async with a_pair(prefill=(break_down,)) as gateway:
        await gateway.post()
        row = traffic(gateway)["default"]
    assert (row.requests, row.errors, row.paired) == (1, 0, 0)


@pytest.mark.parametrize(
    ("behaviour", "errors"), [(refuse, 0), (break_down, 1)], ids=["the client's", "the worker's"]
)
async def test_whose_fault_a_refusal_is(behaviour, errors):
    async with a_gateway(behaviour) as gateway:
        await gateway.post()
        row = traffic(gateway)["default"]
    assert (row.requests, row.errors) == (1, errors)


async def test_a_stream_that_breaks_off_is_the_workers_fault():
    async with a_gateway(break_off) as gateway:
        await gateway.post(stream=True, logprobs=1)  # nobody can go on with it
        row = traffic(gateway)["default"]
    assert (row.requests, row.errors, row.e2e.total) == (1, 1, 0)


async def test_a_client_that_leaves_is_no_error():
    asked = asyncio.Event()

    async def hang(call):
        asked.set()
        await call.until_closed()

    async with a_gateway(hang) as gateway:
        request = asyncio.create_task(gateway.post())
        await asked.wait()
        request.cancel()
        await gateway.assert_quiet()
        row = traffic(gateway)["default"]
    assert (row.requests, row.errors) == (1, 0)


async def test_what_no_worker_was_asked_for_is_no_traffic():
    async with a_gateway() as gateway:
        await gateway.post(model="other")
        await gateway.post("/v1/chat/completions", messages="?")
        assert (await gateway.client.get("/v1/models")).status_code == 200
        assert len(gateway.workers[0].calls) == len(traffic(gateway))


async def test_a_variant_that_fails_does_not_look_well_because_another_stood_in():
    variants = [
        {"name": name, "weight": weight, "engine": "emulator", "topology": {"type": "aggregated"}}
        for name, weight in (("broken", 10_000), ("good", 1))
    ]
    model = a_declared(variants=variants)
    async with FakeWorker(good) as worker, Gateway() as gateway:
        fleet = []
        for variant, url in (("broken", closed_port_url()), ("good", worker.url)):
            lone = a_declared(
                variants=[v | {"weight": 1} for v in variants if v["name"] == variant]
            )
            (each,) = a_fleet(lone, unified=[url])
            fleet.append(msgspec.structs.replace(each, id=f"m-{variant}"))
        gateway.plane.table = a_table(models=[model], workers=fleet)
        for _ in range(3):
            assert (await gateway.post()).status_code == 200
        rows = traffic(gateway)
    assert (rows["good"].requests, rows["good"].errors) == (3, 0)
    assert rows["broken"].errors == rows["broken"].requests >= 1


async def test_demand_counts_what_waits_and_what_workers_have():
    release = asyncio.Event()

    async def hold(call):
        await release.wait()
        await good(call)

    model = a_declared(limits={"in_flight_per_worker": 1})
    async with a_gateway(hold, model=model) as gateway:
        requests = [asyncio.create_task(gateway.post(prompt="x" * 400)) for _ in range(3)]
        async with asyncio.timeout(5):
            while (seen := demand(gateway)) is None or seen.queued < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (seen.queued, seen.in_flight) == (2, 1)
        assert 200 <= seen.queued_prompt_tokens <= 220
        assert seen.oldest_at == pytest.approx(seen.asked_at, abs=5)
        release.set()
        await asyncio.gather(*requests)
        seen = demand(gateway)
        assert (seen.queued, seen.in_flight, seen.queued_prompt_tokens) == (0, 0, 0)
        assert seen.asked_at > 0


async def test_a_disaggregated_request_is_in_flight_once():
    asked = asyncio.Event()

    async def hang(call):
        asked.set()
        await call.until_closed()

    async with a_pair(decode=(hang,), model=a_declared(topology=DISAGGREGATED)) as gateway:
        request = asyncio.create_task(gateway.post())
        await asked.wait()
        assert demand(gateway).in_flight == 1
        request.cancel()
        await gateway.assert_quiet()
        assert demand(gateway).in_flight == 0
