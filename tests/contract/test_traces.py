"""Traces, as a collector gets them: one a request, with a span for each thing that was done."""

import asyncio
import subprocess
import sys
import time

import msgspec
import pytest
from collector import a_collector
from emulator_process import TOKEN, emulator_process
from gateway_world import (
    DISAGGREGATED,
    SECRET,
    Gateway,
    a_declared,
    a_fleet,
    a_gateway,
    a_pair,
    a_table,
    closed_port_url,
    good,
    once,
)
from teller import CHAT, Teller, a_tellers_gateway, listen
from test_dataplane_concurrent_pair import a_room

from gateway.tallies import Count
from gateway.tracing import otlp
from gateway.tracing.otlp import OtlpTracer
from registry.spec import Role

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INTERNAL, SERVER, CLIENT = 1, 2, 3


@pytest.fixture
def collector():
    with a_collector() as collector:
        yield collector


@pytest.fixture
def tracer(collector):
    return OtlpTracer(collector.url, 1.0, Count(), node="here")


async def drop(call):
    raise ConnectionResetError


def parentage(spans):
    """Each span's name by its parent's."""
    names = {span.span_id: span.name for span in spans}
    return sorted((names.get(span.parent_id, span.parent_id), span.name) for span in spans)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_pairs_request_is_one_trace(collector, tracer, stream):
    began = time.time()
    prefill, decode = (emulator_process(role) for role in (Role.PREFILL, Role.DECODE))
    with prefill as (prefill_url, _), decode as (decode_url, _):
        async with Gateway(tracer=tracer) as gateway:
            model = a_declared("smollm2", topology=DISAGGREGATED)
            fleet = a_fleet(model, prefill=[prefill_url], decode=[decode_url])
            workers = [msgspec.structs.replace(worker, token=TOKEN) for worker in fleet]
            gateway.plane.table = a_table(models=[model], workers=workers)
            answer = await gateway.post(model="smollm2", max_tokens=9, stream=stream)
            assert answer.status_code == 200
            await gateway.assert_quiet()
    spans = collector.spans
    name = "text_completion smollm2"
    assert parentage(spans) == [("", name), (name, "decode"), (name, "prefill")]
    request, prefill, decode = (collector.one(each) for each in (name, "prefill", "decode"))
    assert len({span.trace_id for span in spans}) == 1
    assert (request.kind, prefill.kind, decode.kind) == (SERVER, CLIENT, CLIENT)
    assert began <= request.began <= prefill.began < prefill.ended <= decode.began
    assert decode.began < decode.ended <= request.ended + 0.001 <= time.time() + 0.001
    assert not any(span.failed for span in spans)
    assert request["gen_ai.usage.output_tokens"] == 9
    assert request["gen_ai.usage.input_tokens"] > 0
    assert request["gen_ai.provider.name"] == "emulator"
    assert request["modelyard.mode"] == "disaggregated"
    assert request["http.response.status_code"] == decode["http.response.status_code"] == 200
    assert (prefill["modelyard.role"], decode["modelyard.role"]) == ("prefill", "decode")
    assert decode["modelyard.worker"] == request["modelyard.worker"] == "smollm2-decode-0"
    assert decode["server.port"] == int(decode_url.rpartition(":")[2])
    assert request.resource["service.name"] == "modelyard-gateway"
    if stream:
        assert decode.began < decode.events["first_token"] <= decode.ended
        assert request.events == decode.events
        assert request["gen_ai.response.time_to_first_chunk"] > 0
    else:
        assert not request.events


async def test_a_clients_trace_goes_on_to_both_workers(collector, tracer):
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "rojo=1,congo=2"}
    async with a_pair(tracer=tracer) as gateway:
        assert (await gateway.post(stream=True, headers=headers)).status_code == 200
        calls = [gateway.prefills[0].calls[0], gateway.decodes[0].calls[0]]
    request = collector.one("text_completion m")
    assert (request.trace_id, request.parent_id) == (TRACE, SPAN)
    for call, name in zip(calls, ("prefill", "decode"), strict=True):
        assert call.headers["traceparent"] == f"00-{TRACE}-{collector.one(name).span_id}-01"
        assert call.headers["tracestate"] == "rojo=1,congo=2"
    assert {span.state for span in collector.spans} == {"rojo=1,congo=2"}


@pytest.mark.parametrize("given", ["nonsense", f"00-{'0' * 32}-{SPAN}-01"])
async def test_a_malformed_parent_is_ignored(collector, tracer, given):
    async with a_gateway(tracer=tracer) as gateway:
        headers = [("traceparent", given), ("tracestate", "rojo=1")]
        await gateway.post(headers=headers)
        await gateway.post(headers=[("traceparent", f"00-{TRACE}-{SPAN}-01")] * 2)
        assert not any("tracestate" in call.headers for call in gateway.workers[0].calls)
    roots = [span for span in collector.spans if span.kind == SERVER]
    assert len(roots) == 2
    assert all(span.parent_id == "" and span.trace_id != TRACE for span in roots)


async def test_a_trace_that_the_client_does_not_sample_leaves_nothing(collector, tracer):
    unsampled = f"00-{TRACE}-{SPAN}-00"
    async with a_gateway(tracer=tracer) as gateway:
        await gateway.post(headers={"traceparent": unsampled})
        assert gateway.workers[0].calls[0].headers["traceparent"] == unsampled
    assert not collector.spans


async def test_what_the_ratio_leaves_out_tells_the_workers_so(collector):
    async with a_gateway(tracer=OtlpTracer(collector.url, 0.0, Count())) as gateway:
        await gateway.post()
        assert gateway.workers[0].calls[0].headers["traceparent"].endswith("-00")
        sampled = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
        await gateway.post(headers=sampled)
    assert {span.trace_id for span in collector.spans} == {TRACE}


async def test_without_a_tracer_nothing_is_sent_on():
    async with a_gateway() as gateway:
        await gateway.post(headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
        assert "traceparent" not in gateway.workers[0].calls[0].headers


async def test_a_second_try_is_a_span_of_its_own(collector, tracer):
    flaky = once(drop)
    async with a_gateway(flaky, workers=2, tracer=tracer) as gateway:
        assert (await gateway.post(stream=True)).status_code == 200
    first, second = (span for span in collector.spans if span.name == "unified")
    assert (first["modelyard.try"], second["modelyard.try"]) == (1, 2)
    assert first["modelyard.worker"] != second["modelyard.worker"]
    assert first.failed
    assert first["error.type"] == "reset"
    assert not second.failed
    assert first.ended <= second.began
    assert not collector.one("text_completion m").failed


async def test_a_takeover_is_seen(collector, tracer):
    teller = Teller(cuts=[900])
    async with a_tellers_gateway(teller, teller, tracer=tracer) as gateway:
        assert (await listen(gateway, CHAT)).done
        assert gateway.sample("modelyard_takeovers_total", model="m", outcome="resumed") == 1
    broken, takeover, rest = (
        span for span in collector.spans if span.name in ("unified", "takeover")
    )
    assert broken.failed
    assert "first_token" in broken.events
    assert "first_token" in rest.events
    assert broken.ended <= takeover.began <= takeover.ended <= rest.began
    assert [s.name for s in collector.spans if s.name == "tokenize"], "the count of what was said"


async def test_both_halves_of_a_concurrent_pair_are_seen(collector, tracer):
    async with a_room(tracer=tracer) as gateway:
        assert (await listen(gateway, CHAT)).done
        parents = [w.calls[0].headers["traceparent"] for w in (*gateway.prefills, *gateway.decodes)]
        assert gateway.sample("modelyard_kv_transfers_total", model="m") == 1
        assert gateway.sample("modelyard_kv_transfer_time_seconds_count") is None
    prefill, decode = collector.one("prefill"), collector.one("decode")
    assert [parent.split("-")[2] for parent in parents] == [prefill.span_id, decode.span_id]
    assert prefill.began < decode.ended
    assert decode.began < prefill.ended
    assert not prefill.failed
    assert not prefill.events
    assert "first_token" in decode.events


async def test_a_wait_for_room_is_seen(collector, tracer):
    gate = asyncio.Event()

    async def slow(call):
        await gate.wait()
        await good(call)

    model = a_declared(limits={"in_flight_per_worker": 1})
    async with a_gateway(slow, model=model, tracer=tracer) as gateway:
        asked = [asyncio.create_task(gateway.post()) for _ in range(2)]
        async with asyncio.timeout(3):
            while not gateway.sample("modelyard_queued_requests"):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        gate.set()
        await asyncio.gather(*asked)
    queue = collector.one("queue")
    assert queue.kind == INTERNAL
    waited = [span for span in collector.spans if span.span_id == queue.parent_id]
    assert waited[0]["modelyard.queue_s"] == pytest.approx(queue.ended - queue.began, abs=1e-3)


async def test_an_error_is_told_with_its_code(collector, tracer):
    async with a_gateway(drop, tracer=tracer) as gateway:
        assert (await gateway.post()).status_code == 503
        assert (await gateway.post(model="nowhere-42")).status_code == 404
    failed, unknown = (span for span in collector.spans if span.kind == SERVER)
    assert failed.failed
    assert failed["error.type"] == "model_unavailable"
    assert not unknown.failed, "the client's own fault"
    assert unknown["error.type"] == "model_not_found"


async def test_no_prompt_and_no_secret_is_in_a_trace(collector, tracer):
    async with a_tellers_gateway(Teller(), tracer=tracer) as gateway:
        await listen(gateway, {"messages": [{"role": "user", "content": "my secret wish"}]})
        await gateway.post(model="my secret model")
    sent = b"".join(collector.bodies)
    assert sent
    for secret in (b"secret wish", b"secret model", SECRET.encode(), b"worker-token", b"Bearer"):
        assert secret not in sent


async def test_a_collector_that_is_away_costs_no_request(monkeypatch):
    monkeypatch.setattr(otlp, "CLOSE_S_MAX", 0.2)
    spans = Count()
    tracer = OtlpTracer(closed_port_url() + "/v1/traces", 1.0, spans)
    async with a_gateway(tracer=tracer) as gateway:
        assert [(await gateway.post()).status_code for _ in range(3)] == [200] * 3
        began = time.monotonic()
    assert time.monotonic() - began < 2, "nor much of the end"
    assert spans["made",] >= 6, "two a request, and one of the wait where there was one"


async def test_a_trace_that_cannot_be_made_costs_no_request(collector, tracer, monkeypatch):
    def broken(*_, **__):
        raise ValueError

    monkeypatch.setattr(otlp, "spans_of", broken)
    async with a_gateway(tracer=tracer) as gateway:
        assert (await gateway.post()).status_code == 200
        assert len(await gateway.usage()) == 1


async def test_the_log_line_has_the_trace(collector, tracer, monkeypatch):
    async with a_gateway(tracer=tracer) as gateway:
        lines = []
        monkeypatch.setattr(gateway.plane._access_log, "_write", lines.append)
        await gateway.post()
        await gateway.post(headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
    sampled, unsampled = (msgspec.json.decode(line) for line in b"".join(lines).splitlines())
    assert sampled["trace_id"] == collector.one("text_completion m").trace_id
    assert "trace_id" not in unsampled
    assert (sampled["operation"], sampled["worker"]) == ("completions", "m-unified-0")


def test_opentelemetry_is_not_even_loaded_where_traces_are_off():
    code = (
        "import sys, gateway.serve; sys.exit(any('opentelemetry' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
