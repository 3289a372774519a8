"""What the metrics say of requests; and that documents and dashboard speak of those metrics."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from gateway_world import (
    DISAGGREGATED,
    DONE,
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_gateway,
    a_pair,
    a_table,
    completion,
    event,
    good,
    once,
    token,
)
from teller import CHAT, Teller, a_tellers_gateway, listen

from gateway.admin.gauges import device_families

ROOT = Path(__file__).parents[2]
PAIR = {"model": "m", "variant": "default"}
ROW = re.compile(r"^\| `(modelyard_\w+)` \| (\w+) \|([\w, ]*)\|", re.MULTILINE)
OF_HISTOGRAMS = ("_bucket", "_count", "_sum")


async def drop(call):
    raise ConnectionResetError


async def families():
    """All that a gateway tells: type and labels by the name that a query uses."""
    async with Gateway() as gateway:
        found = {}
        for family in (*gateway.metrics_registry.collect(), *device_families((), ())):
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = (family.type, set(getattr(family, "_labelnames", ())))
        return found


async def test_the_readme_lists_every_metric_with_its_labels():
    rows = ROW.findall((ROOT / "README.md").read_text())
    listed = {name: (kind, set(labels.replace(",", " ").split())) for name, kind, labels in rows}
    assert len(listed) == len(rows)
    assert listed == await families()


async def test_every_query_of_the_dashboard_is_of_a_metric_that_exists():
    dashboard = json.loads((ROOT / "examples/monitoring/grafana.json").read_text())
    known = set()
    for name, (kind, labels) in (await families()).items():
        ends = OF_HISTOGRAMS if kind == "histogram" else ("",)
        known |= {name + end for end in ends}
        assert "le" not in labels
    panels = dashboard["panels"]
    asked = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"modelyard_\w+", target["expr"])
    }
    assert asked
    assert asked <= known
    assert len({panel["id"] for panel in panels}) == len(panels)
    corners = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(corners) == len(panels)


async def test_the_dashboards_labels_are_those_of_its_metrics():
    dashboard = json.loads((ROOT / "examples/monitoring/grafana.json").read_text())
    known = await families()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            by = set(", ".join(re.findall(r"by \((.*?)\)", target["expr"])).split(", "))
            for name in re.findall(r"modelyard_\w+", target["expr"]):
                base = name.removesuffix("_bucket")
                assert by - {"le"} <= known[base][1], target["expr"]
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert shown <= by, target["legendFormat"]


async def with_cache(call):
    """A prefill worker that tells how much of the prompt it had."""
    answer = completion()
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 4}
    answer["kv_transfer_params"] = {
        "do_remote_prefill": True,
        "remote_engine_id": "e",
        "remote_block_ids": [1],
        "remote_host": "127.0.0.1",
        "remote_port": 1,
    }
    await call.answer(body=answer)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_pairs_legs_and_transfer_are_counted(stream):
    async with a_pair() as gateway:
        assert (await gateway.post(stream=stream)).status_code == 200
        sample = gateway.sample
        for role in ("prefill", "decode"):
            assert sample("modelyard_upstream_requests_total", **PAIR, role=role) == 1
        assert sample("modelyard_request_prefill_time_seconds_count", **PAIR) == 1
        assert sample("modelyard_kv_transfers_total", **PAIR) == 1
        # Where nothing is heard before the end, nobody knows when the KV had come.
        timed = sample("modelyard_kv_transfer_time_seconds_count", **PAIR)
        assert timed == (1 if stream else None)
        assert sample("modelyard_request_queue_time_seconds_count", **PAIR) == 1
        assert sample("modelyard_kv_transfer_failures_total") is None


async def test_a_decode_worker_that_gives_no_token_is_a_transfer_that_failed():
    flaky = once(drop)
    async with a_pair(decode=[flaky, flaky]) as gateway:
        assert (await gateway.post(stream=True)).status_code == 200
        failed = {"reason": "reset", **PAIR}
        assert gateway.sample("modelyard_kv_transfer_failures_total", **failed) == 1
        assert gateway.sample("modelyard_upstream_failures_total", **failed, role="decode") == 1
        assert gateway.sample("modelyard_retries_total", **failed) == 1
        assert gateway.sample("modelyard_kv_transfers_total", **PAIR) == 1


async def test_of_a_pair_it_is_prefill_that_knows_what_was_cached():
    async def all_of_it(call):
        answer = completion(prompt_tokens=5)
        answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 5}
        await call.answer(body=answer)

    async with a_pair(prefill=[with_cache], decode=[all_of_it]) as gateway:
        assert (await gateway.post()).headers["x-modelyard-mode"] == "disaggregated"
        assert gateway.sample("modelyard_prompt_tokens_cached_total", **PAIR) == 4


@pytest.mark.parametrize(
    ("details", "cached"),
    [({"cached_tokens": 3}, 3), ({"cached_tokens": None}, 0), (None, 0), ("nonsense", 0)],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_cached_tokens_are_counted_where_a_worker_tells_them(details, cached, stream):
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": details}

    async def tell(call):
        if not stream:
            await call.answer(body=completion() | {"usage": usage})
            return
        await call.begin_stream()
        for data in (token("a"), token("b"), event({"choices": [], "usage": usage}), DONE):
            await call.chunk(data)
        await call.end_stream()

    async with a_gateway(tell) as gateway:
        await gateway.post(stream=stream)
        assert gateway.sample("modelyard_prompt_tokens_cached_total", **PAIR) == cached
        assert gateway.sample("modelyard_prompt_tokens_total", **PAIR) == 7


async def test_what_the_router_found_of_a_prompt_is_counted():
    model = a_declared(routing={"policy": "prefix"})
    async with a_gateway(model=model, workers=2) as gateway:
        prompt = "All work and no play makes Jack a dull boy. " * 200
        for _ in range(2):
            await gateway.post(prompt=prompt)
        asked = gateway.sample("modelyard_prefix_cache_queries_total", **PAIR)
        found = gateway.sample("modelyard_prefix_cache_hits_total", **PAIR)
        assert asked == pytest.approx(2 * len(prompt) / 4, rel=0.01)
        assert 0.4 * asked < found < 0.5 * asked, "of the second one, nearly all"


async def test_an_error_is_counted_by_a_code_of_ours():
    async def refuse(call):
        error = {"message": "no", "type": "x", "code": "what the worker calls it"}
        await call.answer(400, {"error": error})

    async with a_gateway(refuse) as gateway:
        await gateway.post()
        await gateway.post(model="nowhere")
        await gateway.post(n=0)
        await gateway.post(headers={"authorization": "Bearer wrong"})
        counted = {
            (sample.labels["model"], sample.labels["reason"])
            for family in gateway.metrics_registry.collect()
            for sample in family.samples
            if sample.name == "modelyard_request_errors_total"
        }
    assert counted == {
        ("m", "worker_refused"),
        ("", "model_not_found"),
        ("", "invalid_request_error"),
        ("", "invalid_api_key"),
    }


async def test_what_a_full_queue_refuses_has_not_waited():
    model = a_declared(limits={"in_flight_per_worker": 1, "queued": 1})
    held = asyncio.Event()

    async def slow(call):
        await held.wait()
        await good(call)

    async with a_gateway(slow, model=model) as gateway:
        asked = [asyncio.create_task(gateway.post()) for _ in range(3)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status_code for task in done] == [429]
        held.set()
        await asyncio.gather(*asked)
        assert gateway.sample("modelyard_request_queue_time_seconds_count", model="m") == 2
        assert gateway.sample("modelyard_request_errors_total", reason="queue_full") == 1


async def test_requests_are_told_apart_by_operation():
    async with a_tellers_gateway(Teller()) as gateway:
        await listen(gateway, CHAT)
        await gateway.post()
        await gateway.client.get("/v1/models")
        for operation in ("chat.completions", "completions", ""):
            assert gateway.sample("modelyard_requests_total", operation=operation) == 1


async def test_workers_are_counted_by_phase_and_told_when_set_aside():
    async with FakeWorker(good) as decode, FakeWorker(drop) as prefill, Gateway() as gateway:
        model = a_declared(topology=DISAGGREGATED)
        fleet = a_fleet(model, prefill=[prefill.url], decode=[decode.url])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        for role in ("prefill", "decode"):
            assert gateway.sample("modelyard_workers", **PAIR, role=role, phase="ready") == 1
        assert gateway.sample("modelyard_worker_set_aside") is None
        await gateway.post()
        aside = {**PAIR, "role": "prefill", "worker": "m-prefill-0"}
        assert gateway.sample("modelyard_worker_set_aside", **aside) == 1
        assert gateway.sample("modelyard_worker_set_aside") == 1
