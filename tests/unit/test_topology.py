"""Expanding a spec: how many workers, which belong together, and what makes one outdated."""

import msgspec
import pytest
from fleets import disaggregated, unified
from hypothesis import given
from hypothesis import strategies as st

from pipelines.topology import expand
from registry.spec import Bypass, Limits, Routing, RoutingPolicy


@given(st.integers(1, 9))
def test_each_unified_worker_is_a_gang_of_its_own(workers):
    gangs = expand(unified("m", workers=workers))

    assert [[(p.ordinal - i, p.role)] for i, (p,) in enumerate(gangs)][:1] == [[(0, "unified")]]
    assert list(range(workers)) == [plan.ordinal for (plan,) in gangs]


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_ratio_is_one_gang_of_both_roles(prefill, decode):
    (gang,) = expand(disaggregated("pd", prefill=prefill, decode=decode))

    assert prefill == sum(plan.role == "prefill" for plan in gang)
    assert decode == sum(plan.role == "decode" for plan in gang)
    assert len({plan.slot for plan in gang}) == prefill + decode
    assert {"nixl"} == {plan.transfer for plan in gang}


def test_a_deleted_model_asks_for_nothing():
    assert expand(unified("m", deleted=True)) == ()


def fingerprints(model):
    return {plan.slot: plan.fingerprint for gang in expand(model) for plan in gang}


def changed(model, **change):
    spec = msgspec.structs.replace(model.spec, **change)
    return msgspec.structs.replace(model, spec=spec, revision=2)


@pytest.mark.parametrize(
    "change",
    [
        {"limits": Limits(total_s=1.0)},
        {"routing": Routing(policy=RoutingPolicy.ROUND_ROBIN)},
    ],
)
def test_what_can_change_under_a_worker_keeps_its_fingerprint(change):
    model = disaggregated("pd")

    assert fingerprints(model) == fingerprints(changed(model, **change))


def test_weight_bypass_and_other_roles_keep_the_fingerprint():
    model = disaggregated("pd")
    variant = model.spec.variants[0]
    topology = msgspec.structs.replace(
        variant.topology,
        bypass=Bypass(max_prompt_tokens=9),
        decode=msgspec.structs.replace(variant.topology.decode, workers=3, memory="8GiB"),
    )
    other = msgspec.structs.replace(variant, topology=topology, weight=7)
    after = fingerprints(changed(model, variants=(other,)))
    before = fingerprints(model)

    prefill, decode = ("pd", "default", "prefill", 0), ("pd", "default", "decode", 0)
    assert before[prefill] == after[prefill]
    assert before[decode] != after[decode]


def test_what_a_worker_is_started_with_changes_its_fingerprint():
    seen = [
        fingerprints(unified("m", **change)).popitem()[1]
        for change in ({}, {"memory": "8GiB"}, {"devices": 2}, {"args": {"seed": 1}})
    ]
    seen.append(fingerprints(changed(unified("m"), source="file:///else")).popitem()[1])

    assert len(set(seen)) == len(seen)
