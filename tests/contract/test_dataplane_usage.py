"""Every request that is let in ends as one usage record, however it ends; no other makes one.

`Gateway` asserts at its end that what was opened adds up; here is what each record says.
"""

import asyncio
from pathlib import Path

import pytest
from gateway_world import (
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_gateway,
    a_key,
    a_table,
    closed_port_url,
    completion,
    good,
)

from gateway.metering.entries import Opened, read_entries

PRICE = {"input": 2.5, "output": 10.001}


async def test_an_answer_costs_what_its_tokens_cost_by_the_models_price():
    async with a_gateway(model=a_declared(price=PRICE)) as gateway:
        await gateway.post(headers={"x-request-id": "mine"})
        await gateway.post("/v1/chat/completions", prompt=None, messages=[])
        plain, chat = await gateway.usage()
        assert (plain.request_id, plain.status, plain.variant) == ("mine", "ok", "default")
        assert (plain.prompt_tokens, plain.completion_tokens) == (5, 2)
        assert plain.cost_nano == 5 * 2_500 + 2 * 10_001
        assert [plain.operation, chat.operation] == ["completions", "chat.completions"]
        assert plain.closed_at >= plain.opened_at


async def test_a_request_is_in_the_journal_before_a_worker_hears_of_it():
    seen = []

    async def look(call):
        for path in Path(gateway._home.name).glob("*/0*"):  # noqa: ASYNC240
            entries = read_entries(path.read_bytes()).entries
            seen.extend(each.request_id for each in entries if isinstance(each, Opened))
        await good(call)

    async with a_gateway(look) as gateway:
        await gateway.post(headers={"x-request-id": "mine"})
        assert seen == ["mine"]


async def hang(call):
    await call.until_closed()


async def test_who_is_not_served_in_time_is_metered_without_a_variant():
    limits = {"in_flight_per_worker": 1, "queued": 2, "queued_s": 0.1}
    async with a_gateway(hang, model=a_declared(limits=limits, price=PRICE)) as gateway:
        first = asyncio.create_task(gateway.post())
        await asyncio.sleep(0.1)
        late = await gateway.post(headers={"x-request-id": "late"})
        assert late.status_code == 503
        first.cancel()
        await gateway.assert_quiet()
        rows = {row.request_id: row for row in await gateway.usage()}
        row = rows.pop("late")
        assert (row.status, row.variant, row.mode, row.revision) == ("error", "", "", 0)
        assert (row.prompt_tokens, row.completion_tokens, row.cost_nano) == (0, 0, 0)
        assert [each.status for each in rows.values()] == ["cancelled"]


async def test_a_client_that_leaves_the_queue_is_metered_as_one_that_left():
    limits = {"in_flight_per_worker": 1, "queued": 2, "queued_s": 5}
    async with a_gateway(hang, model=a_declared(limits=limits)) as gateway:
        tasks = [asyncio.create_task(gateway.post()) for _ in range(3)]
        await asyncio.sleep(0.2)
        for task in reversed(tasks):
            task.cancel()
        await gateway.assert_quiet()
        assert [row.status for row in await gateway.usage()] == ["cancelled"] * 3


async def test_a_queue_that_is_full_refuses_what_it_had_let_in():
    limits = {"in_flight_per_worker": 1, "queued": 0, "queued_s": 5}
    async with a_gateway(hang, model=a_declared(limits=limits)) as gateway:
        first = asyncio.create_task(gateway.post())
        await asyncio.sleep(0.1)
        assert (await gateway.post()).status_code == 429
        first.cancel()
        await gateway.assert_quiet()
        assert sorted(row.status for row in await gateway.usage()) == ["cancelled", "error"]


async def test_a_worker_that_refuses_costs_nothing():
    async def refuse(call):
        await call.answer(400, {"error": {"message": "no"}})

    async with a_gateway(refuse) as gateway:
        assert (await gateway.post()).status_code == 400
        (row,) = await gateway.usage()
        assert (row.status, row.variant, row.completion_tokens) == ("error", "default", 0)


async def test_what_several_workers_failed_at_is_one_request():
    async def drop(call):
        raise ConnectionResetError

    async with a_gateway(drop, workers=3) as gateway:
        assert (await gateway.post()).status_code == 503
        assert [row.status for row in await gateway.usage()] == ["error"]


@pytest.mark.parametrize(
    ("key", "body", "status"),
    [
        ("wrong", b'{"model":"m"}', 401),
        ("", b'{"model":"m"', 400),
        ("", b'{"model":"m","max_tokens":-1}', 400),
        ("", b'{"model":"other"}', 404),
        ("", b'{"model":"m","prompt":"' + b"x" * 2_000 + b'"}', 413),
        ("", b'{"model":"empty"}', 503),
    ],
    ids=["key", "json", "field", "model", "body", "no workers"],
)
async def test_what_is_refused_before_it_is_let_in_is_not_metered(key, body, status):
    async with FakeWorker(good) as worker, Gateway() as gateway:
        models = [a_declared(limits={"body_bytes": 1_024}), a_declared("empty")]
        fleet = a_fleet(models[0], unified=[worker.url])
        gateway.plane.table = a_table(models=models, workers=fleet)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        answer = await gateway.client.post("/v1/completions", content=body, headers=headers)
        assert answer.status_code == status
        assert gateway.metering.counts.opened == 0
        assert await gateway.usage() == []


async def test_a_model_that_the_key_may_not_use_is_not_metered():
    async with Gateway() as gateway:
        model = a_declared()
        fleet = a_fleet(model, unified=[closed_port_url()])
        keys = (a_key(models=("other",)),)
        gateway.plane.table = a_table(models=[model], workers=fleet, keys=keys)
        assert (await gateway.post()).status_code == 404
        assert gateway.metering.counts.opened == 0


async def test_the_numbers_are_shown_to_prometheus():
    async with a_gateway(hang, model=a_declared(limits={"first_token_s": 0.2})) as gateway:
        task = asyncio.create_task(gateway.post())
        await asyncio.sleep(0.1)
        assert gateway.sample("modelyard_usage_opened_total") == 1
        assert gateway.sample("modelyard_usage_open") == 1
        assert gateway.sample("modelyard_usage_journal_failing") == 0
        await task
        assert gateway.sample("modelyard_usage_open") == 0
        assert gateway.sample("modelyard_usage_closed_total", status="error") == 1
        assert gateway.sample("modelyard_usage_waiting") == 1
        await gateway.usage()
        assert gateway.sample("modelyard_usage_waiting") == 0
        assert gateway.sample("modelyard_usage_swept_total") == 0
        assert gateway.sample("modelyard_usage_records_dropped_total") == 0


async def test_a_worker_that_counts_nonsense_makes_no_row_that_a_database_refuses():
    async def brag(call):
        await call.answer(body=completion(completion_tokens=2**40))

    async with a_gateway(brag, model=a_declared(price={"output": 1_000_000})) as gateway:
        await gateway.post()
        (row,) = await gateway.usage()
        assert row.cost_nano == 10**15
