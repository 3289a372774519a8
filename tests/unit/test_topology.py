"""Expanding a spec: how many workers, which belong together, and what makes one outdated."""

import msgspec
import pytest
from fleets import disaggregated, external, unified
from hypothesis import given
from hypothesis import strategies as st

from pipelines.topology import expand
from registry.spec import Bypass, Idle, IdleAction, Limits, Routing, RoutingPolicy


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


def test_kv_moves_in_the_engines_own_way_where_the_spec_says_nothing_of_it():
    given = disaggregated("pd", engine="sglang")
    (gang,) = expand(given)
    assert {"mooncake"} == {plan.transfer for plan in gang}
    variant = given.spec.variants[0]
    said = msgspec.structs.replace(variant.topology, transfer="mooncake")
    same = changed(given, variants=(msgspec.structs.replace(variant, topology=said),))
    assert fingerprints(given) == fingerprints(same)
    assert {plan.transfer for (plan,) in expand(unified("m", engine="sglang"))} == {""}


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
        {"idle": Idle(after_s=60.0)},
        {"pool": "tail"},
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


def test_external_workers_are_plans_that_hold_nothing():
    model = external(
        "x",
        urls=["http://a:1/", "https://b"],
        served_name="theirs",
        token_file="/k",
        engine="openai",
    )

    first, second = (plan for (plan,) in expand(model))

    assert (first.external.url, second.external.url) == ("http://a:1", "https://b")
    assert [plan.slot for plan in (first, second)] == [
        ("x", "default", "unified", n) for n in (0, 1)
    ]
    for plan in (first, second):
        assert (plan.devices, plan.memory_bytes, plan.runtime) == (0, 0, "")
        assert (plan.external.served_name, plan.external.token_file) == ("theirs", "/k")


def test_an_external_pair_is_taken_up_worker_by_worker():
    prefill = {"url": "http://p", "bootstrap_port": 9}
    gangs = expand(
        external("x", prefill=[prefill], decode=["http://d", "http://e"], engine="sglang")
    )

    assert [(plan.role, plan.ordinal) for (plan,) in gangs] == [
        ("prefill", 0),
        ("decode", 0),
        ("decode", 1),
    ]
    assert [plan.external.bootstrap_port for (plan,) in gangs] == [9, 0, 0]


def test_what_an_external_worker_is_told_changes_its_fingerprint():
    seen = [
        fingerprints(external("x", **change)).popitem()[1]
        for change in (
            {"urls": ["http://a"]},
            {"urls": ["http://b"]},
            {"urls": ["https://a"]},
            {"urls": ["http://a"], "served_name": "n"},
            {"urls": ["http://a"], "token_file": "/k"},
            {"urls": ["http://a"], "engine": "vllm"},
        )
    ]

    assert len(set(seen)) == len(seen)
    assert seen[0] == fingerprints(external("y", urls=["http://a/"])).popitem()[1]


def test_kv_events_are_asked_of_our_own_workers_and_only_where_they_are_read():
    wanted = {"routing": Routing(policy=RoutingPolicy.KV_EVENTS)}
    ours, theirs = unified("m"), external("x", urls=["http://a"])

    assert [plan.kv_events for (plan,) in expand(changed(ours, **wanted))] == [True]
    assert fingerprints(ours) != fingerprints(changed(ours, **wanted))
    assert [plan.kv_events for (plan,) in expand(changed(theirs, **wanted))] == [False]
    assert fingerprints(theirs) == fingerprints(changed(theirs, **wanted))


def test_an_upgrade_replaces_no_worker():
    """Pinned: what these specs were started with has had these fingerprints since the first one."""
    wishes = {"labels": {"a": "b"}, "device_model": "H100"}

    assert set(fingerprints(unified("m")).values()) == {"23d915d468764290"}
    assert set(fingerprints(disaggregated("d")).values()) == {"b57bbfa591d88e6e"}
    assert set(fingerprints(unified("x", placement=wishes)).values()) == {"aedadae61efe8b34"}


def test_engines_that_may_sleep_are_started_for_it_and_those_that_run_stay():
    """They are stopped the first time, and then started so that they can sleep."""
    model = unified("m")
    stop = Idle(after_s=60.0, then=IdleAction.STOP)
    for change, sleeps in (
        ({}, False),
        ({"idle": Idle(after_s=60.0)}, True),
        ({"pool": "p"}, True),
        ({"pool": "p", "idle": stop}, False),
    ):
        idle = changed(model, **change)
        assert [plan.sleeps for (plan,) in expand(idle)] == [sleeps]
        assert fingerprints(idle) == fingerprints(model)


def test_halves_of_a_pair_are_stopped_and_not_put_to_sleep():
    """Their KV memory is registered with what moves it."""
    model = disaggregated("pd")
    idle = changed(model, idle=Idle(after_s=60.0))
    assert fingerprints(idle) == fingerprints(model)
    assert not any(plan.sleeps for gang in expand(idle) for plan in gang)
