"""What is asked for in files, what is refused there, and the specs that come out."""

import gzip
from pathlib import Path

import pytest
from planner_world import demand, fleet, subject

from pipelines.planner.inputs import fleet_of, profiles_of, traffic_of
from pipelines.planner.nearest import likeness, size_of
from pipelines.planner.plan import plan
from pipelines.planner.recommend import demand_of
from pipelines.planner.specs import spec_of
from pipelines.planner.traces import TraceError, rate_of, read
from registry import spec as specs
from registry.errors import SpecError

MODEL = """\
models:
  - name: chat
    source: hf://Qwen/Qwen3-8B
    requests_per_s: 2
    prompt_tokens: 1000
    answer_tokens: 100
    slo: {ttft_s: 1, tpot_s: 0.05}
"""
KNOWN = (
    "Qwen/Qwen3-8B",
    "meta-llama/Meta-Llama-3.1-8B",
    "Qwen/Qwen3-30B-A3B",
    "openai/gpt-oss-20b",
)


def changed(line: str, to: str) -> str:
    assert line in MODEL
    return MODEL.replace(line, to)


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        (
            changed("requests_per_s: 2", "requests_per_s: 0"),
            "models[0].requests_per_s",
            "allowed is",
        ),
        (
            changed("prompt_tokens: 1000", "prompt_tokens: -1"),
            "models[0].prompt_tokens",
            "allowed is 1",
        ),
        (changed("tpot_s: 0.05", "tpot_s: 0"), "models[0].slo", "ttft_s and tpot_s above 0"),
        (changed("name: chat", "title: chat"), "models[0].title", "is not known here"),
        (changed("hf://Qwen/Qwen3-8B", "Qwen"), "models[0].source", "allowed"),
        (MODEL + "    engines: [trtllm]\n", "models[0].engines", "allowed are vllm, sglang"),
        (MODEL + "    headroom: -0.1\n", "models[0].headroom", "allowed is 0 to 10"),
        (MODEL + "    trace: a.csv\n", "models[0].prompt_tokens", "leave it out"),
        (MODEL + "    share: 1\n", "models[0].share", "allowed is 0.5 to 0.999"),
        (MODEL + MODEL.removeprefix("models:\n"), "models", "'chat' twice"),
        ("models: []", "models", "are 0"),
        (MODEL + "---\n" + MODEL, "", "2 documents"),
    ],
)
def test_traffic_that_means_nothing_is_refused_by_its_field(text, field, says):
    with pytest.raises(SpecError) as error:
        traffic_of(text)
    assert error.value.field == field
    assert says in error.value.message


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("nodes: []", "nodes", "at least one"),
        ("nodes: [{device_model: H100, devices: 6, island: 4}]", "nodes[0].island", "divisor of 6"),
        ("nodes: [{device_model: H100, count: 0}]", "nodes[0].count", "allowed is 1"),
        ("nodes: [{device_model: H100, cost: 0}]", "nodes[0].cost", "allowed is 0.001"),
        (
            "nodes: [{device_model: H100, cost: 2}, {device_model: H100, devices: 4}]",
            "nodes",
            "H100 at a cost of 2 and of 1, allowed is one",
        ),
        ("nodes: [{device_model: ''}]", "nodes[0].device_model", "as in H100"),
        ("nodes: [{count: 2}]", "nodes[0].device_model", "is missing"),
    ],
)
def test_fleets_that_cannot_be_are_refused_by_their_field(text, field, says):
    with pytest.raises(SpecError) as error:
        fleet_of(text)
    assert (error.value.field, says in error.value.message) == (field, True), error.value


def test_traces_come_in_both_public_forms_and_packed(tmp_path: Path):
    azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:04.0000000,10,2\n"
    azure += "2023-11-16 18:17:03.0000000,20,3\n"
    (tmp_path / "a.csv").write_text(azure)
    with gzip.open(tmp_path / "m.jsonl.gz", "wt") as file:
        file.write('{"timestamp": 500, "input_length": 7, "output_length": 1}\n' * 3)
    one, two = read(tmp_path / "a.csv")
    assert [(a.at_s, a.length.prompt, a.length.answer) for a in (one, two)] == [
        (0, 20, 3),
        (1, 10, 2),
    ]
    assert rate_of([one, two]) == 2
    assert len(read(tmp_path / "m.jsonl.gz")) == 3


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.txt", "x", "allowed are .csv and .jsonl"),
        ("a.csv", "TIMESTAMP,Other\n1,2\n", "request 1"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "has no requests"),
        ("a.jsonl", '{"timestamp": 1, "input_length": 0, "output_length": 1}\n', "has no prompt"),
        ("a.jsonl", "[1]\n", "request 1"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_what_is_no_trace_says_where(tmp_path: Path, name, text, says):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(TraceError, match=says):
        read(tmp_path / name)


def test_a_trace_is_found_beside_its_file_and_not_at_all_from_elsewhere(tmp_path: Path):
    (tmp_path / "t.jsonl").write_text('{"timestamp": 0, "input_length": 70, "output_length": 5}\n')
    cut = changed("    requests_per_s: 2\n    prompt_tokens: 1000\n    answer_tokens: 100\n", "")
    (asked,) = traffic_of(cut + "    trace: t.jsonl\n    requests_per_s: 3\n").models
    found = demand_of(asked, tmp_path)
    assert (found.rate, found.prompt, found.answer) == (3, 70, 5)
    with pytest.raises(SpecError, match=r"models\[0\].trace"):
        demand_of(asked, None, "models[0].")


@pytest.mark.parametrize(
    ("name", "measured", "factor"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B", 1),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3.1-8B", 1),
        ("acme/Thing-7B", "Qwen/Qwen3-8B", 0.875),
        ("acme/Sparse-28B-A3B", "Qwen/Qwen3-30B-A3B", 1.0),
        ("acme/Thing-28B", "openai/gpt-oss-20b", None),
    ],
)
def test_a_model_without_data_is_taken_for_the_nearest_in_size(name, measured, factor):
    found = likeness(name, KNOWN)
    if factor is not None:
        assert (found.measured, found.factor) == (measured, factor)
    assert found.is_estimate == (name not in KNOWN and "Llama" not in name)


def test_a_name_without_a_size_is_like_nothing():
    assert likeness("acme/thing", KNOWN) is None
    assert size_of("acme/thing") is None
    assert size_of("acme/Mix-30B-A3B-FP8") == (30.0, 3.0)


def test_specs_are_what_apply_takes_and_share_the_traffic_by_what_variants_hold():
    asked = [subject(demand("chat", rate=60.0), 16), subject(demand("code", rate=10.0), 30)]
    made = plan(asked, fleet(H100=2, A100=4))
    written = specs.to_yaml([spec_of(c, "hf://org/name") for c in made.choices if c.options])
    for choice, spec in zip(made.choices, specs.from_yaml(written), strict=True):
        assert spec.slo == choice.demand.slo
        held = {option.device: option for option in choice.options}
        assert {v.placement.device_model for v in spec.variants} == set(held)
        for variant in spec.variants:
            option = held[variant.placement.device_model]
            roles = dict(variant.topology.roles())
            assert sum(role.workers * role.devices for role in roles.values()) == option.devices
            if len(held) > 1:
                share = option.rate / choice.rate
                assert variant.weight == pytest.approx(100 * share, abs=1)


PROFILES = """\
{"items": [{"id": "prf_1", "measured_at": "2026-11-26T00:00:00Z", "profile": {
  "source": "hf://org/m", "engine": "vllm", "device_model": "NVIDIA H100", "devices": 1,
  "memory_bytes": 1000, "batched_tokens": 0, "kv_tokens": 100, "is_kv_told": true, "points": [
  {"requests": 1, "prompt_tokens": 64, "answer_tokens": 1, "seconds": 0.1, "rounds": 1}]}}]}
"""


def test_profiles_are_read_as_they_are_listed():
    (profile,) = profiles_of(PROFILES)
    assert (profile.source, profile.points[0].seconds) == ("hf://org/m", 0.1)
    assert profiles_of('{"items": []}') == ()


@pytest.mark.parametrize(
    ("part", "to", "field", "says"),
    [
        ('"seconds": 0.1', '"seconds": 0', "items[0].profile.points[0].seconds", "allowed is"),
        ('"kv_tokens": 100', '"kv_tokens": 0', "items[0].profile.kv_tokens", "allowed is 1"),
        ('"requests": 1', '"requests": "x"', "items[0].profile.points[0].requests", ""),
        ('"items"', '"profiles"', "items", "is missing"),
    ],
)
def test_profiles_that_mean_nothing_are_refused_by_their_field(part, to, field, says):
    assert part in PROFILES
    with pytest.raises(SpecError) as error:
        profiles_of(PROFILES.replace(part, to))
    assert error.value.field == field
    assert says in error.value.message
