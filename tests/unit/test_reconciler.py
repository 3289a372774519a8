"""Reconciling asks for exactly what is missing, and lets go of exactly what is not wanted."""

import msgspec
import pytest
from fleets import a_snapshot, a_worker, disaggregated, external, unified, with_spec, workers_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.backoff import BACKOFF_MAX_S, backoff
from pipelines.conditions import condition
from pipelines.reconciler import reconcile
from pipelines.topology import expand
from registry.spec import Role
from registry.state import Phase, RoleScale


def slots(decision):
    return [[plan.slot[2:] for plan in gang] for gang in decision.start]


def plan_of(model):
    return expand(model)[0][0]


def failed(plan, at, *, ready_at=None, index=0):
    return a_worker(
        plan, Phase.FAILED, id=f"f{index}-{at}", ended_at=at, ready_at=ready_at, reason="boom"
    )


def test_a_new_model_starts_everything_it_asks_for():
    decision = reconcile(a_snapshot(models=[disaggregated("pd", prefill=2)]), now=0.0)

    assert slots(decision) == [[("prefill", 0), ("prefill", 1), ("decode", 0)]]


def test_a_model_at_rest_needs_nothing():
    model = disaggregated("pd")

    decision = reconcile(a_snapshot(models=[model], workers=workers_of(model)), now=0.0)

    assert (decision.start, [*decision.drain]) == ((), [])


def test_only_the_lost_half_of_a_pair_is_started_again():
    model = disaggregated("pd")
    prefill, _ = workers_of(model)

    decision = reconcile(a_snapshot(models=[model], workers=[prefill]), now=0.0)

    assert slots(decision) == [[("decode", 0)]]


def test_scaling_down_drains_the_highest_ordinals():
    workers = workers_of(unified("m", workers=3))

    decision = reconcile(a_snapshot(models=[unified("m", workers=1)], workers=workers), now=0.0)

    assert ([], [workers[1].id, workers[2].id]) == (slots(decision), [*decision.drain])


def test_a_deleted_model_drains_everything():
    model = unified("m", deleted=True)
    workers = workers_of(unified("m"))

    decision = reconcile(a_snapshot(models=[model], workers=workers), now=0.0)

    assert ((), [workers[0].id]) == (decision.start, [*decision.drain])


def test_workers_of_a_model_that_is_no_longer_listed_are_drained():
    workers = workers_of(unified("m"))

    assert [workers[0].id] == [*reconcile(a_snapshot(workers=workers), now=0.0).drain]


def test_the_old_revision_serves_until_the_new_one_is_ready():
    old = workers_of(unified("m"))[0]
    model = unified("m", args={"seed": 1})
    plan = plan_of(model)

    first = reconcile(a_snapshot(models=[model], workers=[old]), now=0.0)
    starting = a_worker(plan, Phase.STARTING)
    during = reconcile(a_snapshot(models=[model], workers=[old, starting]), now=0.0)
    ready = a_worker(plan)
    after = reconcile(
        a_snapshot(models=[model], workers=[msgspec.structs.replace(old, id="old"), ready]), now=0.0
    )

    assert (slots(first), [*first.drain]) == ([[("unified", 0)]], [])
    assert (during.start, [*during.drain]) == ((), [])
    assert (after.start, [*after.drain]) == ((), ["old"])


def test_a_change_that_needs_no_restart_keeps_the_workers():
    before = unified("m", workers=1)
    workers = workers_of(before)
    after = unified("m", workers=2, generation=2, revision=2)

    decision = reconcile(a_snapshot(models=[after], workers=workers), now=0.0)

    assert (slots(decision), [*decision.drain]) == ([[("unified", 1)]], [])


def test_backoff_doubles_to_its_ceiling_and_says_what_failed():
    plan = plan_of(unified("m"))
    delays = []
    for count in range(1, 10):
        ended = [failed(plan, float(at), index=at) for at in range(count)]
        start_at, last = backoff(plan, ended)
        assert last is not None
        delays.append(start_at - last.ended_at)

    assert delays == [1, 2, 4, 8, 16, 32, BACKOFF_MAX_S, BACKOFF_MAX_S, BACKOFF_MAX_S]


@pytest.mark.parametrize(
    ("ended", "delay_s"),
    [
        ([], None),
        ([(100.0, 0.0)], 0.0),  # served 100 s, then failed: again at once
        ([(100.0, 0.0), (101.0, None)], 1.0),
        ([(1.0, None), (200.0, 100.0), (201.0, None)], 1.0),  # the stable one ends the row
    ],
)
def test_a_worker_that_served_long_begins_the_backoff_anew(ended, delay_s):
    plan = plan_of(unified("m"))
    history = [
        failed(plan, at, ready_at=ready_at, index=i) for i, (at, ready_at) in enumerate(ended)
    ]

    start_at, last = backoff(plan, history)

    assert delay_s == (None if last is None else start_at - last.ended_at)


def test_another_fingerprint_or_a_clean_stop_is_no_reason_to_wait():
    plan = plan_of(unified("m"))
    other = plan_of(unified("m", args={"seed": 1}))
    stopped = a_worker(plan, Phase.STOPPED, ended_at=9.0)

    assert backoff(plan, [failed(other, 9.0)]) == (0.0, None)
    assert backoff(plan, [stopped, failed(plan, 8.0)]) == (0.0, None)


def test_a_gang_waits_as_a_whole_and_says_until_when():
    model = disaggregated("pd")
    decode = expand(model)[0][1]

    decision = reconcile(a_snapshot(models=[model], ended=[failed(decode, 10.0)]), now=10.5)

    assert (decision.start, decision.held) == ((), expand(model))
    assert "decode 0 of default starts again at 00:00:11 UTC" in decision.waiting["pd"]
    assert "boom" in decision.waiting["pd"]


def test_the_condition_names_what_is_missing_and_is_empty_when_nothing_is():
    model = disaggregated("pd")
    prefill, decode = workers_of(model)
    starting = msgspec.structs.replace(decode, phase=Phase.STARTING, reason="loads")

    assert condition(model, [prefill, decode], "") == ""
    assert condition(model, [prefill, starting], "no room") == (
        "default: 0 of 1 decode ready; no room"
    )


phases = st.sampled_from([Phase.ASSIGNED, Phase.STARTING, Phase.READY, Phase.DRAINING])


@given(
    st.integers(1, 3), st.integers(1, 3), st.lists(st.tuples(st.integers(0, 5), phases), max_size=8)
)
@settings(max_examples=150, deadline=None)
def test_never_more_than_one_kept_worker_a_slot_and_no_slot_started_twice(prefill, decode, have):
    model = disaggregated("pd", prefill=prefill, decode=decode)
    plans = [plan for gang in expand(disaggregated("pd", prefill=3, decode=3)) for plan in gang]
    workers = [
        a_worker(plans[which], phase, id=f"w{index}") for index, (which, phase) in enumerate(have)
    ]

    decision = reconcile(a_snapshot(models=[model], workers=workers), now=0.0)

    going = set(decision.drain) | {w.id for w in workers if w.phase is Phase.DRAINING}
    kept = [worker.plan.slot for worker in workers if worker.id not in going]
    started = [plan.slot for gang in decision.start for plan in gang]
    wanted = {plan.slot for gang in expand(model) for plan in gang}
    assert set(kept) | set(started) == wanted
    assert len(started) == len(set(started))
    assert not set(started) & set(kept)


def test_external_workers_are_reached_and_never_placed():
    model = external("x", prefill=["http://p"], decode=["http://d"])
    snapshot = a_snapshot(models=[model, unified("m")])

    decision = reconcile(snapshot, now=0.0)

    assert slots(decision) == [[("unified", 0)]]
    assert [plan.external.url for plan in decision.reach] == ["http://p", "http://d"]


def test_an_external_worker_that_failed_is_reached_again_after_a_while():
    model = external("x", urls=["http://a"])
    ended = [failed(plan_of(model), 100.0)]

    early = reconcile(a_snapshot(models=[model], ended=ended), now=100.5)
    late = reconcile(a_snapshot(models=[model], ended=ended), now=101.0)

    assert (early.reach, "boom" in early.waiting["x"]) == ((), True)
    assert (len(late.reach), late.waiting) == (1, {})


def test_one_external_worker_that_waits_keeps_no_other_waiting():
    model = external("x", prefill=["http://p"], decode=["http://d"])
    ended = [failed(plan_of(model), 100.0)]

    decision = reconcile(a_snapshot(models=[model], ended=ended), now=100.5)

    assert [plan.external.url for plan in decision.reach] == ["http://d"]


def test_a_removed_external_worker_is_drained_and_another_address_replaces_it():
    before, after = external("x", urls=["http://a", "http://b"]), external("x", urls=["http://c"])
    first, second = workers_of(before)

    decision = reconcile(a_snapshot(models=[after], workers=[first, second]), now=0.0)

    assert [*decision.drain] == [second.id]
    assert [plan.external.url for plan in decision.reach] == ["http://c"]


def test_an_autoscaled_role_misses_none_of_those_that_its_load_does_not_want():
    model = with_spec(unified("m", workers=2), topology={"autoscale": {"workers_max": 2}})
    scale = RoleScale(variant="default", role=Role.UNIFIED, workers=1, reason="calm", at=0.0)
    model = msgspec.structs.replace(model, scales=(scale,))
    (ready,) = workers_of(model)
    assert condition(model, [ready], "") == ""


def test_the_condition_says_what_an_external_worker_answers():
    model = external("x", urls=["http://a", "http://b"])
    ready, other = workers_of(model)
    silent = a_worker(other.plan, Phase.STARTING, reason="x-1 /health: ConnectError")

    text = condition(model, [ready, silent], "")

    assert text == "default: 1 of 2 unified ready; x-1 /health: ConnectError"


@pytest.mark.parametrize("phase", [Phase.FALLING_ASLEEP, Phase.ASLEEP, Phase.WAKING])
def test_a_worker_that_sleeps_fills_its_slot(phase):
    model = unified("m")
    snapshot = a_snapshot(models=[model], workers=workers_of(model, phase))
    decision = reconcile(snapshot, 0.0)
    assert (decision.start, decision.drain, decision.depart) == ((), {}, {})


def test_nobody_stays_for_a_successor_that_sleeps():
    """It can serve: it needs only to be asked."""
    old, new = unified("m"), unified("m", args={"seed": 1}, revision=2)
    outdated = workers_of(old, Phase.READY)
    asleep = workers_of(new, Phase.ASLEEP)
    decision = reconcile(a_snapshot(models=[new], workers=[*outdated, *asleep]), 0.0)
    assert list(decision.drain) == [outdated[0].id]


def test_an_outdated_worker_that_sleeps_goes_at_once():
    old, new = unified("m"), unified("m", args={"seed": 1}, revision=2)
    asleep = workers_of(old, Phase.ASLEEP)
    decision = reconcile(a_snapshot(models=[new], workers=asleep), 0.0)
    assert list(decision.drain) == [asleep[0].id]
    assert len(decision.start) == 1


def test_the_condition_of_a_model_that_sleeps_says_since_when_and_what_wakes_it():
    model = unified("m", workers=2)
    first, second = workers_of(model, Phase.ASLEEP, turned_at=3600.0, reason="not asked for 60 s")
    assert condition(model, (first, second), "") == (
        "asleep since 01:00:00 UTC (not asked for 60 s): the next request wakes it"
    )
    ready, _ = workers_of(model, Phase.READY)
    assert condition(model, (ready, second), "") == "", "some of it is awake"
    assert condition(model, (second,), "no room") == (
        "default: 0 of 2 unified ready, 1 asleep; no room"
    )


def test_a_condition_counts_the_workers_that_the_load_asks_for():
    bounds = {"workers_min": 1, "workers_max": 4}
    model = with_spec(unified("m", workers=2), topology={"autoscale": bounds})
    (variant,) = model.spec.variants

    def scaled(workers):
        scale = RoleScale(variant=variant.name, role=Role.UNIFIED, workers=workers, reason="", at=0)
        return msgspec.structs.replace(model, scales=(scale,))

    one, two = workers_of(model, Phase.READY)
    assert condition(scaled(1), (one,), "") == "", "it has as many as it is to have"
    assert condition(scaled(3), (one, two), "no room") == ("default: 2 of 3 unified ready; no room")
