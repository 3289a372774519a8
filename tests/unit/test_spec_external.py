"""External workers in a spec: what may be declared, and what is refused by its field."""

import json

import pytest

from registry import spec as specs
from registry.errors import SpecError
from registry.spec import External

A, B = {"url": "http://10.0.0.1:8000"}, {"url": "http://10.0.0.2:8000"}
MEETS = {**A, "bootstrap_port": 8998}
PAIR = {"prefill": [A], "decode": [B]}


def a_spec(topology, engine="vllm", **variant):
    variant = {"engine": engine, "topology": {"type": "external", **topology}, **variant}
    return specs.from_data({"name": "m", "variants": [variant]})


@pytest.mark.parametrize("engine", ["vllm", "sglang", "openai", "emulator"])
def test_any_engine_may_serve_elsewhere_and_needs_no_source(engine):
    assert a_spec({"workers": [A, B]}, engine).source == ""


@pytest.mark.parametrize(("engine", "prefill"), [("vllm", A), ("emulator", A), ("sglang", MEETS)])
def test_a_pair_may_serve_elsewhere(engine, prefill):
    (variant,) = a_spec({"prefill": [prefill], "decode": [B]}, engine).variants
    assert variant.topology.is_disaggregated


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://h:1", "http://h:1"),
        ("https://api.example.org", "https://api.example.org"),
        ("http://h:1/", "http://h:1"),
        ("http://[::1]:65535", "http://[::1]:65535"),
        ("http://my_pod-1.svc:80", "http://my_pod-1.svc:80"),
    ],
)
def test_a_worker_is_an_origin(url, origin):
    (variant,) = a_spec({"workers": [{"url": url}]}).variants
    assert variant.topology.workers[0].origin == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:1",
        "//h:1",
        "ftp://h:1",
        "HTTP://h:1",
        "http://",
        "http://:80",
        "http://h:",
        "http://h:0",
        "http://h:65536",
        "http://h:-1",
        "http://h:x",
        "http://h:1/v1",
        "http://h:1//",
        "http://h:1?a=b",
        "http://h:1#a",
        "http://user:pa55@h:1",
        "http://pa55@h:1",
        "http://h h:1",
        "http://h:1\n",
        "http://h\t:1",
        "http://-h:1",
        "http://hö:1",
        "http://::1:80",
        "http://[::1",
        "http://" + "h" * 600,
    ],
)
def test_anything_else_is_not_and_is_not_repeated(url):
    with pytest.raises(SpecError) as refused:
        a_spec({"workers": [A, {"url": url}]})
    assert refused.value.field == "variants[0].topology.workers[1].url"
    assert refused.value.message.endswith("allowed is http://host:port or https://host:port")
    assert "pa55" not in str(refused.value)


_T = "topology."
BAD = [
    ({}, "vllm", _T + "workers", "are missing"),
    ({"workers": []}, "vllm", _T + "workers", "are missing"),
    ({"workers": [A], **PAIR}, "vllm", _T + "workers", "the ones or the others"),
    ({"workers": [A], "decode": [B]}, "vllm", _T + "workers", "the ones or the others"),
    ({"prefill": [A]}, "vllm", _T + "decode", "is missing"),
    ({"decode": [A]}, "vllm", _T + "prefill", "is missing"),
    ({"workers": [A, B, A]}, "vllm", _T + "workers[2].url", "again"),
    (
        {"workers": [{"url": "http://h:1"}, {"url": "http://H:1/"}]},
        "vllm",
        _T + "workers[1].url",
        "",
    ),
    ({"prefill": [A], "decode": [B, A]}, "vllm", _T + "decode[1].url", "again"),
    (
        {"workers": [{"url": f"http://h:{n + 1}"} for n in range(1025)]},
        "vllm",
        _T + "workers",
        "1024",
    ),
    ({"workers": [{}]}, "vllm", _T + "workers[0].url", "is missing"),
    ({"workers": [{**A, "token": "x"}]}, "vllm", _T + "workers[0].token", "url, bootstrap_port"),
    ({"workers": [A], "token_file": "keys/them"}, "vllm", _T + "token_file", "absolute"),
    ({"workers": [A], "token_file": "/a\0b"}, "vllm", _T + "token_file", "printable"),
    ({"workers": [A], "served_name": "x" * 257}, "vllm", _T + "served_name", "256"),
    ({"workers": [A], "bypass": {"max_prompt_tokens": 9}}, "vllm", _T + "bypass", "do both"),
    (PAIR, "openai", "engine", "cannot hand over KV"),
    (PAIR, "sglang", _T + "prefill[0].bootstrap_port", "is missing"),
    (
        {"prefill": [MEETS], "decode": [{**B, "bootstrap_port": 1}]},
        "sglang",
        _T + "decode[0].bootstrap_port",
        "prefill workers only",
    ),
    ({"prefill": [MEETS], "decode": [B]}, "vllm", _T + "prefill[0].bootstrap_port", "for sglang"),
    ({"workers": [MEETS]}, "sglang", _T + "workers[0].bootstrap_port", "prefill workers only"),
    (
        {"prefill": [{**A, "bootstrap_port": 65_536}], "decode": [B]},
        "sglang",
        _T + "prefill[0].bootstrap_port",
        "0 to 65535",
    ),
    (
        {"prefill": [MEETS], "decode": [B], "bypass": {"max_prompt_tokens": 9}},
        "sglang",
        _T + "bypass",
        "cannot prefill",
    ),
]


@pytest.mark.parametrize(("topology", "engine", "field", "words"), BAD)
def test_a_bad_one_is_refused_by_its_field(topology, engine, field, words):
    with pytest.raises(SpecError) as refused:
        a_spec(topology, engine)
    assert refused.value.field == f"variants[0].{field}"
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("variant", "field"),
    [
        ({"runtime": "vllm-0.32.0"}, "runtime"),
        ({"placement": {"device_model": "H100"}}, "placement"),
    ],
)
def test_what_only_a_worker_of_ours_has_is_refused(variant, field):
    with pytest.raises(SpecError) as refused:
        a_spec({"workers": [A]}, **variant)
    assert refused.value.field == f"variants[0].{field}"


def test_a_source_is_needed_as_soon_as_one_variant_is_ours():
    external = {"name": "x", "engine": "vllm", "topology": {"type": "external", "workers": [A]}}
    ours = {"name": "o", "engine": "vllm", "topology": {"type": "aggregated"}}
    data = {"name": "m", "variants": [external, ours]}
    with pytest.raises(SpecError, match="source: is missing, allowed is hf://"):
        specs.from_data(data)
    assert isinstance(
        specs.from_json(json.dumps({**data, "source": "hf://o/m"})).variants[0].topology, External
    )
