"""What the adapter of every engine that we start must do; tests/unit/test_engine_external.py has
those that only run elsewhere.
"""

import json
from pathlib import Path

import msgspec
import pytest
from emulator_process import LAUNCH
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engines import ENGINES
from pipelines.engines.base import ProtocolError
from registry.spec import TRAITS, Role
from registry.state import DeviceKind

TRANSCRIPTS = Path(__file__).parent / "transcripts"
SECRET = "s3cret-of-this-worker"

STARTED = [name for name, traits in TRAITS.items() if traits.started]
# Those that speak vLLM's P/D protocol, which the recorded pair spoke.
SEQUENTIAL = [name for name in STARTED if not TRAITS[name].concurrent]


def over(names):
    return pytest.mark.parametrize("engine", [ENGINES[name] for name in names], ids=names)


every_engine, every_sequential_engine = over(STARTED), over(SEQUENTIAL)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def launch(**changes):
    return msgspec.structs.replace(LAUNCH, token=SECRET, **changes)


def raw(body: dict) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(json.dumps(body), type=dict[str, msgspec.Raw])


def plain(body: dict[str, msgspec.Raw]) -> dict:
    return msgspec.json.decode(msgspec.json.encode(body))


def exposition(name: str) -> str:
    exchanges = json.loads((TRANSCRIPTS / "pair.json").read_text("utf-8"))["exchanges"]
    return next(each for each in exchanges if each["name"] == name)["response"]["text"]


@every_engine
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("kind", list(DeviceKind))
def test_the_token_is_in_the_environment_and_never_on_the_command_line(engine, role, kind):
    transfer = "" if role is Role.UNIFIED else "nixl"
    command = engine.command(launch(role=role, device_kind=kind, transfer=transfer))
    assert not any(SECRET in word for word in command.argv)
    assert SECRET in command.env.values()


@every_engine
def test_it_is_told_its_address_and_its_name(engine):
    words = " ".join(engine.command(launch(host="10.1.2.3", port=8123)).argv)
    assert "10.1.2.3" in words
    assert "8123" in words
    assert "smollm2" in words


@every_engine
def test_arguments_become_flags_and_false_leaves_one_out(engine):
    argv = engine.command(
        launch(args={"seed": 7, "ignore-sigterm": True, "enable-prefix-caching": False})
    ).argv
    assert "--seed=7" in argv
    assert "--ignore-sigterm" in argv
    assert not any("prefix-caching" in word for word in argv)


@every_engine
def test_an_argument_cannot_bring_in_another_flag(engine):
    argv = engine.command(launch(args={"seed": "--trust-remote-code", "x": "1 --api-key=k"})).argv
    assert "--trust-remote-code" not in argv
    assert not any(word.startswith("--api-key") for word in argv)


@every_engine
def test_a_command_depends_on_the_launch_alone(engine):
    assert engine.command(launch()) == engine.command(launch())


@every_engine
def test_every_default_runtime_has_a_name(engine):
    assert all(engine.default_runtime(kind) for kind in DeviceKind)


@every_sequential_engine
@given(extra=st.dictionaries(st.text(), json_values, max_size=4))
def test_the_prefill_leg_asks_one_token_and_keeps_what_it_does_not_know(engine, extra):
    ours = {"stream", "max_tokens", "max_completion_tokens", "min_tokens", "stream_options"}
    unknown = {name: value for name, value in extra.items() if name not in ours}
    body = {
        **unknown,
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 500,
        "max_completion_tokens": 400,
        "min_tokens": 30,
    }
    leg = plain(engine.prefill_body(raw(body), "chat.completions"))
    assert leg.pop("kv_transfer_params")["do_remote_decode"] is True
    one = {"stream": False, "max_tokens": 1, "max_completion_tokens": 1, "min_tokens": 1}
    unknown.pop("kv_transfer_params", None)
    assert leg == {**unknown, "model": "m", **one}


@every_sequential_engine
def test_the_prefill_leg_adds_no_limit_the_request_did_not_name(engine):
    leg = plain(engine.prefill_body(raw({"model": "m"}), "chat.completions"))
    assert "max_completion_tokens" not in leg
    assert "min_tokens" not in leg


@every_sequential_engine
def test_the_prefill_leg_is_bounded_as_its_operation_bounds_an_answer(engine):
    body = raw({"model": "m", "input": "a", "max_output_tokens": 90, "stream": True})
    leg = plain(engine.prefill_body(body, "responses"))
    assert leg.pop("kv_transfer_params")["do_remote_decode"] is True
    assert leg == {"model": "m", "input": "a", "max_output_tokens": 1, "stream": False}
    body = raw({"model": "m", "messages": [], "max_tokens": 90, "stream": True})
    assert plain(engine.prefill_body(body, "messages"))["max_tokens"] == 1


@every_engine
def test_what_it_answers_as_a_pair_it_answers_alone(engine):
    assert engine.paired_operations <= engine.operations
    assert {"chat.completions", "completions"} <= engine.paired_operations


@every_sequential_engine
def test_the_legs_leave_the_request_as_it_was(engine):
    body = raw({"model": "m", "stream": True, "max_tokens": 9})
    before = dict(body)
    engine.prefill_body(body, "chat.completions")
    engine.decode_body(body, b'{"kv_transfer_params":{"remote_port":1}}')
    assert body == before


@every_sequential_engine
def test_the_decode_leg_is_the_request_with_prefills_parameters_as_they_came(engine):
    body = {"model": "m", "stream": True, "max_tokens": 9, "stream_options": {}}
    given_kv = '{"remote_block_ids":[[1,2]],  "new_field":{"x":1e3}}'
    leg = engine.decode_body(raw(body), f'{{"id":"1","kv_transfer_params":{given_kv}}}'.encode())
    assert plain(leg) == {**body, "kv_transfer_params": json.loads(given_kv)}
    assert bytes(leg["kv_transfer_params"]) == given_kv.encode()


@every_sequential_engine
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"kv_transfer_params":null}',
        b'{"kv_transfer_params":[]}',
        b'{"kv_transfer_params":"x"}',
        b'{"kv_transfer_params":{"a":1}',
        b"\xff\xfe",
    ],
)
def test_an_answer_without_transfer_parameters_is_refused(engine, answer):
    with pytest.raises(ProtocolError):
        engine.decode_body(raw({"model": "m"}), answer)


@every_sequential_engine
def test_it_reads_the_recorded_metrics(engine):
    metrics = engine.metrics(exposition("decode metrics after"))
    assert metrics.kv_transfers == 2
    assert metrics.kv_transfer_failures == 0
    assert metrics.prompt_tokens == 272
    assert metrics.generation_tokens == 18
    assert metrics.requests_running == metrics.requests_waiting == 0
    assert engine.metrics(exposition("decode metrics after failures")).kv_transfer_failures == 6
    assert metrics.kv_tokens == 46_592


@every_sequential_engine
def test_it_reads_what_the_kv_cache_has_room_for_of_older_versions_too(engine):
    text = """
vllm:prompt_tokens_total{engine="0"} 5.0
vllm:cache_config_info{block_size="16",effective_attention_block_size="64",num_gpu_blocks="100"} 1.0
"""
    assert engine.metrics(text).kv_tokens == 1600
    assert engine.metrics(text.replace('"100"', '"None"')).kv_tokens == 0


@every_engine
@pytest.mark.parametrize(
    "text",
    ["", "nothing to read", "vllm:prompt_tokens_total many", "vllm:kv_cache_usage_perc{} NaN"],
)
def test_metrics_it_cannot_read_do_not_break_it(engine, text):
    metrics = engine.metrics(text)
    assert metrics.prompt_tokens == 0
