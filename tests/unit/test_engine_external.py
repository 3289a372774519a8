"""Engines that only run elsewhere: what is sent to them, what is read of them, what is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engines import ENGINES
from pipelines.engines.base import EngineMetrics, Pairing
from registry.spec import EngineName
from registry.state import DeviceKind

SGLANG, OPENAI = ENGINES[EngineName.SGLANG], ENGINES[EngineName.OPENAI]
BODY = {"model": msgspec.Raw(b'"m"'), "prompt": msgspec.Raw(b'"a  b"')}


def test_every_engine_that_a_spec_may_name_has_an_adapter():
    assert set(ENGINES) == set(EngineName)


def test_each_engine_pairs_in_its_own_way():
    assert {name: engine.pairing for name, engine in ENGINES.items()} == {
        EngineName.VLLM: Pairing.SEQUENTIAL,
        EngineName.EMULATOR: Pairing.SEQUENTIAL,
        EngineName.SGLANG: Pairing.CONCURRENT,
        EngineName.OPENAI: Pairing.NONE,
    }


@pytest.mark.parametrize("name", EngineName)
def test_what_an_engine_does_not_speak_is_an_error(name):
    engine = ENGINES[name]
    with_room = {"bootstrap_host": "h", "bootstrap_port": 1, "room": 2}
    if engine.pairing is not Pairing.CONCURRENT:
        with pytest.raises(NotImplementedError, match=engine.pairing):
            engine.concurrent_body(BODY, **with_room)
    if engine.pairing is not Pairing.SEQUENTIAL:
        with pytest.raises(NotImplementedError, match=engine.pairing):
            engine.prefill_body(BODY)
        with pytest.raises(NotImplementedError, match=engine.pairing):
            engine.decode_body(BODY, b"{}")


@pytest.mark.parametrize("engine", [SGLANG, OPENAI])
def test_what_runs_elsewhere_only_has_no_command(engine):
    launch = msgspec.defstruct("Launch", [("worker_id", str)])("w-1")
    with pytest.raises(NotImplementedError, match="w-1"):
        engine.command(launch)


@given(st.text(), st.integers(1, 65_535), st.integers(0, 2**63 - 1))
def test_both_sglang_legs_meet_in_a_room_and_keep_the_request(host, port, room):
    leg = SGLANG.concurrent_body(BODY, bootstrap_host=host, bootstrap_port=port, room=room)

    assert {name: leg[name] for name in BODY} == BODY
    assert msgspec.json.decode(msgspec.json.encode(leg)) == {
        "model": "m",
        "prompt": "a  b",
        "bootstrap_host": host,
        "bootstrap_port": port,
        "bootstrap_room": room,
    }
    assert "bootstrap_room" not in BODY


def test_sglangs_metrics_are_read_by_its_names():
    text = """
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0"} 2.0
sglang:num_queue_reqs{model_name="m"} 3.0
sglang:token_usage{model_name="m"} 0.25
sglang:kv_transfer_latency_ms_count{model_name="m"} 4.0
sglang:num_transfer_failed_reqs_total{model_name="m"} 5.0
sglang:prompt_tokens_total{model_name="m"} 60.0
sglang:generation_tokens_total{model_name="m"} 7.0
vllm:prompt_tokens_total 900
"""
    assert SGLANG.metrics(text) == EngineMetrics(
        requests_running=2,
        requests_waiting=3,
        kv_cache_usage=0.25,
        kv_transfers=4,
        kv_transfer_failures=5,
        prompt_tokens=60,
        generation_tokens=7,
    )


def test_of_any_other_engine_nothing_is_known():
    assert (OPENAI.health_path, OPENAI.metrics_path) == ("", "")
    assert OPENAI.metrics("vllm:prompt_tokens_total 9") == EngineMetrics()
    assert OPENAI.transfers == frozenset()
    assert all(OPENAI.default_runtime(kind) == "" for kind in DeviceKind)
    assert all(SGLANG.default_runtime(kind).startswith("sglang") for kind in DeviceKind)
