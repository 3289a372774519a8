"""Diffs of specs: empty exactly when nothing differs, else each field by its path."""

import itertools

import msgspec
import pytest

from registry.spec import ChangeKind, ModelSpec, diff, from_data, summary_of

POOL = {"type": "aggregated"}
PAIR = {"type": "disaggregated", "prefill": {}, "decode": {"workers": 2}}


def model(topology=POOL, **fields) -> ModelSpec:
    data = {"name": "m", "source": "hf://org/m", "variants": [{"engine": "vllm", "topology": {}}]}
    data["variants"][0]["topology"] = topology
    return from_data(data | fields)


def variants(*items) -> ModelSpec:
    return model(
        variants=[
            {"engine": "vllm", "topology": POOL} | dict(zip(("name", "weight"), i, strict=True))
            for i in items
        ]
    )


def external(*urls, **more) -> ModelSpec:
    return model({"type": "external", "workers": [{"url": url} for url in urls], **more})


SPECS = [
    model(),
    model(source="hf://org/other"),
    model({**POOL, "workers": 2}),
    model({**POOL, "args": {"seed": 1}}),
    model({**POOL, "args": {"seed": 2, "dtype": "half"}}),
    model({**POOL, "max_surge": 2}),
    model(PAIR),
    model({**PAIR, "bypass": {"max_prompt_tokens": 5}}),
    model({**PAIR, "ratio": {"min": 0.5}}),
    model(rollout={"canary": [5, 100]}),
    model(rollout={"gate": {}}),
    model(rollout={"gate": {"watch_s": 60}}),
    model(fallback={"models": ["n"]}),
    model(fallback={"models": ["n", "o"], "on": ["error"]}),
    model(limits={"queued": 5}, price={"input": 1}),
    variants(("a", 1), ("b", 2)),
    variants(("b", 2), ("a", 1)),
    variants(("b", 2), ("a", 2)),
    variants(("c", 1), ("b", 2), ("a", 1)),
    external("http://a:1"),
    external("http://a:1", "http://b:1"),
    external("http://b:1", "http://a:1"),
    external("http://a:1", served_name="x"),
]


@pytest.mark.parametrize(
    ("before", "after"), [*itertools.product(range(len(SPECS)), repeat=2)], ids=str
)
def test_a_diff_is_empty_exactly_when_nothing_differs(before: int, after: int):
    changes = diff(SPECS[before], SPECS[after])
    assert (changes == ()) == (SPECS[before] == SPECS[after])
    assert len({change.field for change in changes}) == len(changes), "a field twice"
    msgspec.json.encode(changes)
    for change in changes:
        assert change.before != change.after or change.kind is not ChangeKind.CHANGED


def lines(before: ModelSpec | None, after: ModelSpec) -> list[tuple[str, object, object]]:
    return [(change.field, change.before, change.after) for change in diff(before, after)]


def test_a_default_is_a_value_like_any_other():
    assert lines(model({**POOL, "workers": 2}), model()) == [
        ("variants[default].topology.workers", 2, 1)
    ]


def test_another_topology_is_told_field_by_field():
    assert lines(model({**POOL, "workers": 3}), model(PAIR)) == [
        ("variants[default].topology.type", "aggregated", "disaggregated"),
        ("variants[default].topology.workers", 3, None),
        ("variants[default].topology.prefill", None, {}),
        ("variants[default].topology.decode.workers", None, 2),
    ]


def test_variants_are_matched_by_name_and_their_order_is_a_change():
    before = variants(("a", 1), ("b", 2))
    assert lines(before, variants(("b", 2), ("a", 3))) == [
        ("variants[a].weight", 1, 3),
        ("variants", ["a", "b"], ["b", "a"]),
    ]
    gone = lines(before, variants(("a", 1)))
    assert ("variants[b].weight", 2, None) in gone
    assert all(field.startswith("variants[b].") for field, _, _ in gone)


def test_of_what_was_absent_every_value_given_is_a_line():
    changed = lines(model(), model(rollout={"gate": {"watch_s": 60, "requests_min": 5}}))
    assert changed == [
        ("rollout.gate.watch_s", None, 60.0),
        ("rollout.gate.requests_min", None, 5),
    ]


def test_a_new_model_is_all_there_is():
    fields = [field for field, _, _ in lines(None, model(PAIR))]
    assert fields[:2] == ["name", "source"]
    assert "variants[default].topology.decode.workers" in fields


def test_a_summary_is_short():
    few = diff(model(), model(PAIR, source="hf://org/x", owner="o", priority=5))
    assert summary_of(few) == ("source, owner, priority and 3 more")
    assert summary_of(few[:1]) == "source"
    assert summary_of(()) == ""
