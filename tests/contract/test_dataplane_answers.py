"""What a client gets from a gateway with good workers."""

import pytest
from gateway_world import (
    DONE,
    SECRET,
    USAGE_EVENT,
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_gateway,
    a_key,
    a_table,
    completion,
    good,
    token,
)
from openai import AsyncOpenAI

TOKENS = token("a") + token("b") + token("c")


async def test_an_answer_comes_back_with_who_gave_it():
    async with a_gateway() as gateway:
        answer = await gateway.post(headers={"x-request-id": "my-id.1_A"})
        assert answer.status_code == 200
        assert answer.json() == completion()
        assert answer.headers["x-request-id"] == "my-id.1_A"
        assert answer.headers["x-modelyard-model"] == "m"
        assert answer.headers["x-modelyard-variant"] == "default"
        assert answer.headers["x-modelyard-revision"] == "3"
        assert answer.headers["x-modelyard-mode"] == "aggregated"
        assert answer.headers["x-modelyard-workers"] == "unified=m-unified-0"


async def test_a_stream_passes_through_and_the_usage_nobody_asked_for_is_kept_back():
    async with a_gateway() as gateway:
        answer = await gateway.post(stream=True)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.content == TOKENS + DONE
        call = gateway.workers[0].calls[0]
        assert call.json["stream_options"] == {"include_usage": True}
        (record,) = await gateway.usage()
        assert (record.prompt_tokens, record.completion_tokens) == (7, 3)
        assert record.status == "ok"


async def test_usage_that_was_asked_for_is_passed_on():
    async with a_gateway() as gateway:
        options = {"include_usage": True, "continuous_usage_stats": False}
        answer = await gateway.post(stream=True, stream_options=options)
        assert answer.content == TOKENS + USAGE_EVENT + DONE
        assert gateway.workers[0].calls[0].json["stream_options"] == options


async def test_a_worker_sees_only_our_own_headers_and_every_field_we_do_not_know():
    async with a_gateway() as gateway:
        await gateway.client.post(
            "/v1/completions",
            headers={"cookie": "c=1", "x-forwarded-for": "1.2.3.4", "x-request-id": "bad id"},
            content=b'{"model": "m", "model":"m","prompt":"hi", "odd": [1, {"x": 2}]}',
        )
        call = gateway.workers[0].calls[0]
        assert set(call.headers) == {
            "host",
            "authorization",
            "content-type",
            "accept",
            "accept-encoding",
            "x-request-id",
            "content-length",
        }
        assert call.headers["authorization"] == "bearer worker-token"
        assert len(call.headers["x-request-id"]) == 32
        assert call.body == b'{"model":"m","prompt":"hi","odd":[1, {"x": 2}]}'


async def test_connections_to_a_worker_are_kept():
    async with a_gateway() as gateway:
        for stream in (False, True, False, True):
            assert (await gateway.post(stream=stream)).status_code == 200
            await gateway.assert_quiet()
        assert gateway.workers[0].connections == 1


async def test_a_kept_connection_that_the_worker_closed_costs_no_request():
    async def once(call):
        await good(call)
        raise ConnectionResetError

    async with a_gateway(once) as gateway:
        for _ in range(5):
            assert (await gateway.post()).status_code == 200
        assert (
            gateway.sample("modelyard_upstream_failures_total", model="m", reason="reset") is None
        )


async def test_a_kept_connection_that_closes_under_a_request_is_no_failure():
    """The worker closes it in the moment the next request comes: nothing is lost but a try."""
    used = set()

    async def once_each(call):
        if call.writer in used:
            raise ConnectionResetError
        used.add(call.writer)
        await good(call)

    async with a_gateway(once_each) as gateway:
        for stream in (False, True, False):
            assert (await gateway.post(stream=stream)).status_code == 200
            await gateway.assert_quiet()
        assert len(gateway.workers[0].calls) == 3 + 2
        assert (
            gateway.sample("modelyard_upstream_failures_total", model="m", reason="reset") is None
        )


async def test_the_openai_client_is_happy():
    async with (
        a_gateway() as gateway,
        AsyncOpenAI(base_url=gateway.url + "/v1", api_key=SECRET) as client,
    ):
        answer = await client.completions.create(model="m", prompt="hi")
        assert answer.choices[0].text == "hello"
        stream = await client.completions.create(model="m", prompt="hi", stream=True)
        assert [chunk.choices[0].text async for chunk in stream] == ["a", "b", "c"]
        assert [model.id async for model in client.models.list()] == ["m"]


async def test_a_key_sees_the_models_it_may_use_and_no_others():
    async with FakeWorker(good) as worker, Gateway() as gateway:
        one, two = a_declared("one"), a_declared("two")
        gateway.plane.table = a_table(
            models=[one, two],
            workers=a_fleet(one, unified=[worker.url]) + a_fleet(two, unified=[worker.url]),
            keys=[a_key(models=("one",))],
        )
        listed = (await gateway.client.get("/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["one"]
        assert (await gateway.client.get("/v1/models/one")).json()["object"] == "model"
        for answer in (
            await gateway.client.get("/v1/models/two"),
            await gateway.client.get("/v1/models/nowhere"),
            await gateway.post(model="two"),
            await gateway.post(model="nowhere"),
        ):
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "model_not_found"
        assert (await gateway.post(model="one")).status_code == 200


async def test_a_declared_model_without_workers_says_why_and_when_to_come_back():
    async with Gateway() as gateway:
        gateway.plane.table = a_table(models=[a_declared(condition="no node has 64GiB")])
        answer = await gateway.post()
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert "no node has 64GiB" in answer.json()["error"]["message"]


async def test_readiness_names_the_models_that_can_answer():
    async with a_gateway() as gateway:
        answer = await gateway.client.get("/readyz", headers={"authorization": ""})
        assert (answer.status_code, answer.json()["models"]) == (
            200,
            [{"name": "m", "ready": True, "reason": ""}],
        )
        gateway.plane.table = a_table(models=[a_declared()])
        answer = await gateway.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["models"][0]["reason"] == "no worker is placed yet"
        assert (await gateway.client.get("/healthz")).status_code == 200


async def test_before_the_registry_was_read_nothing_is_ready():
    async with Gateway() as gateway:
        assert (await gateway.client.get("/readyz")).status_code == 503
        assert (await gateway.post()).status_code == 503
        assert (await gateway.client.get("/healthz")).status_code == 200


async def test_usage_and_metrics_count_what_happened():
    async with a_gateway() as gateway:
        await gateway.post()
        await gateway.post(stream=True)
        await gateway.post(model="nowhere")
        await gateway.post(n=0)
        labels = {"model": "m", "variant": "default", "mode": "aggregated"}
        assert gateway.sample("modelyard_requests_total", **labels, status="200") == 2
        assert gateway.sample("modelyard_generation_tokens_total", **labels) == 5
        assert gateway.sample("modelyard_time_per_output_token_seconds_count", **labels) == 2 - 1
        records = await gateway.usage()
        assert [(r.model, r.mode, r.revision, r.key_id) for r in records] == [
            ("m", "aggregated", 3, a_key().id)
        ] * 2
        assert all(record.closed_at >= record.opened_at for record in records)


async def test_requests_in_flight_are_seen_while_they_are():
    async def look(call):
        seen.append(dict(gateway.plane.router.in_flight))
        seen.append(gateway.sample("modelyard_in_flight_requests", worker="m-unified-0"))
        await good(call)

    seen = []
    async with a_gateway(look) as gateway:
        await gateway.post()
    assert seen == [{"m-unified-0": 1}, 1.0]


@pytest.mark.parametrize("policy", ["round_robin", "least_loaded"])
async def test_requests_spread_over_the_workers(policy):
    model = a_declared(topology={"type": "aggregated", "workers": 2}, routing={"policy": policy})
    async with a_gateway(model=model, workers=2) as gateway:
        for _ in range(20):
            assert (await gateway.post()).status_code == 200
        assert all(len(worker.calls) > 1 for worker in gateway.workers)


async def test_a_variant_of_weight_zero_gets_nothing():
    variants = [
        {"name": "a", "engine": "emulator", "weight": 0, "topology": {"type": "aggregated"}},
        {"name": "b", "engine": "emulator", "weight": 1, "topology": {"type": "aggregated"}},
    ]
    async with FakeWorker(good) as worker, Gateway() as gateway:
        model = a_declared(variants=variants)
        fleet = a_fleet(model, unified=[worker.url])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        assert (await gateway.post()).headers["x-modelyard-variant"] == "b"
