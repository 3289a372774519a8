"""What is known of every engine, and of those that only run elsewhere."""

import msgspec
import pytest

from pipelines.engines import ENGINES
from pipelines.engines.base import EngineMetrics, Pairing
from registry.spec import TRAITS, EngineName
from registry.state import DeviceKind

OPENAI = ENGINES[EngineName.OPENAI]
BODY = {"model": msgspec.Raw(b'"m"'), "prompt": msgspec.Raw(b'"a  b"')}


def test_every_engine_that_a_spec_may_name_has_an_adapter():
    assert set(ENGINES) == set(EngineName)


@pytest.mark.parametrize("name", EngineName)
def test_what_a_spec_may_ask_of_an_engine_is_what_its_adapter_does(name):
    engine, traits = ENGINES[name], TRAITS[name]
    assert traits.concurrent == (engine.pairing is Pairing.CONCURRENT)
    assert bool(traits.transfers) == (engine.pairing is not Pairing.NONE)
    assert bool(traits.transfers) == (engine.counts_transfers is not None)
    assert traits.started == all(engine.default_runtime(kind) for kind in DeviceKind)


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
            engine.prefill_body(BODY, "chat.completions")
        with pytest.raises(NotImplementedError, match=engine.pairing):
            engine.decode_body(BODY, b"{}")


def test_what_runs_elsewhere_only_has_no_command():
    launch = msgspec.defstruct("Launch", [("worker_id", str)])("w-1")
    with pytest.raises(NotImplementedError, match="w-1"):
        OPENAI.command(launch)


def test_of_any_other_engine_nothing_is_known():
    assert (OPENAI.health_path, OPENAI.metrics_path) == ("", "")
    assert OPENAI.metrics("vllm:prompt_tokens_total 9") == EngineMetrics()
    assert OPENAI.resuming is None
    assert all(OPENAI.default_runtime(kind) == "" for kind in DeviceKind)
