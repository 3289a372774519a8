"""Models that are seldom asked share places; what the closed form says is borne out by play."""

from math import exp

import msgspec
import pytest
from planner_world import demand, fleet, subject, times_of

from pipelines.drains import DRAIN_MIN_S
from pipelines.planner.plan import Choice, plan
from pipelines.planner.pools import (
    AWAKE_MIN_S,
    TURN_S,
    Pooled,
    crowd_max,
    member_of,
    rehearse_pool,
)
from pipelines.planner.solve import Pool
from pipelines.planner.specs import held_asleep_bytes, overcommit, pool_name, spec_of
from registry import spec as specs
from registry.spec import Slo


@pytest.fixture(autouse=True)
def short_rehearsals(monkeypatch: pytest.MonkeyPatch):
    """What is tested here are pools; `test_planner_rates` tests what rehearsals say."""
    monkeypatch.setattr("pipelines.planner.plan.REQUESTS", 500)


def tail(count: int, rate: float, ttft_s: float = 6.0):
    return [demand(f"m{i:02}", rate=rate, ttft_s=ttft_s, cv=0) for i in range(count)]


def members(demands):
    found = [member_of(d, times_of(8), "H100", "vllm", 8) for d in demands]
    assert all(isinstance(one, Pooled) for one in found)
    return found


def test_a_member_is_awake_while_it_is_asked_for_and_a_little_longer():
    seldom, often = members([demand("a", rate=0.001, ttft_s=6.0), demand("b", rate=2.0)])
    # One request: it wakes, answers, stays for as long as the pool says, drains and leaves.
    leaves_s = TURN_S + DRAIN_MIN_S + seldom.falls_s
    held_s = AWAKE_MIN_S * 1.005 + seldom.serves_s + seldom.wake_s + leaves_s
    assert seldom.awake == pytest.approx(held_s / (held_s + 1000), rel=0.05)
    assert often.awake > 0.99


def test_who_cannot_wake_in_time_is_no_member_unless_it_seldom_sleeps():
    assert member_of(demand(rate=0.01, ttft_s=0.5), times_of(16), "H100", "vllm", 8) is None
    assert exp(-1.0 * AWAKE_MIN_S) < 0.05
    assert member_of(demand(rate=1.0, ttft_s=0.5), times_of(16), "H100", "vllm", 8)


def test_more_places_bear_a_larger_crowd_and_never_one_above_their_number():
    crowds = [crowd_max(count) for count in range(20)]
    assert crowds[0] == 0
    assert crowds == sorted(crowds)
    assert all(crowd < count for count, crowd in enumerate(crowds) if count)


@pytest.mark.parametrize("places", [2, 4, 8])
def test_most_of_as_many_as_the_closed_form_lets_in_are_answered_in_time(places):
    """The rest is the rehearsal's to find: it plays who shares a place with whom."""
    rate = 0.02
    one = members(tail(1, rate))[0]
    count = max(1, int(crowd_max(places) / one.awake))
    demands = tail(count, rate)
    played = rehearse_pool(members(demands), {d.model: d for d in demands}, places, seed=4)
    mean = sum(played.share.values()) / count
    assert mean > 0.85


def test_far_too_many_are_late():
    demands = tail(40, 0.05)
    played = rehearse_pool(members(demands), {d.model: d for d in demands}, 2, seed=4)
    assert sum(played.share.values()) / 40 < 0.6


def test_a_tail_takes_fewer_devices_than_one_each_and_the_busy_one_keeps_its_own():
    asked = [subject(d, 8.0) for d in tail(12, 0.01)] + [subject(demand("busy", rate=10.0), 8.0)]
    made = plan(asked, fleet(H100=16))
    (pool,) = made.pools
    by_model = {choice.demand.model: choice for choice in made.choices}
    assert {member.model for member in pool.members} == {f"m{i:02}" for i in range(12)}
    assert by_model["busy"].pool is None
    assert by_model["busy"].served == 1.0
    assert all(choice.served == 1.0 for choice in made.choices)
    assert pool.devices <= 6
    assert made.devices == pool.devices + sum(o.devices for o in by_model["busy"].options)


def test_a_single_model_is_not_put_into_a_pool_of_its_own():
    made = plan([subject(demand("alone", rate=0.01, ttft_s=3.0), 8.0)], fleet(H100=2))
    assert made.pools == ()
    assert made.choices[0].options


def test_the_specs_of_a_pool_name_it():
    asked = [subject(d, 8.0) for d in tail(6, 0.01)]
    made = plan(asked, fleet(H100=4))
    (pool,) = made.pools
    written = specs.to_yaml([spec_of(choice, "hf://org/m") for choice in made.choices])
    inside = {spec.name for spec in specs.from_yaml(written) if spec.pool == pool_name(pool)}
    assert inside == {member.model for member in pool.members}


def test_a_member_awake_leaves_room_for_what_all_others_of_its_place_keep_asleep():
    asked = [subject(d, 8.0) for d in tail(6, 0.001)]
    made = plan(asked, fleet(H100=1))
    (pool,) = made.pools
    assert (pool.places, overcommit(pool)) == (1, 6)
    for choice in made.choices:
        (variant,) = spec_of(choice, "hf://org/m").variants
        ((_, role),) = variant.topology.roles()
        kept_bytes = 5 * held_asleep_bytes(pool.members[0])
        assert kept_bytes > 0
        assert 60 * 2**30 < role.memory_bytes <= 79 * 2**30 - kept_bytes


@pytest.mark.parametrize(("alone_bytes", "claimed"), [(2**28, "128MiB"), (4 * 2**30, "2GiB")])
def test_who_takes_little_claims_at_least_half_of_it(alone_bytes: int, claimed: str):
    asked = tail(20, 0.001)
    inside = [msgspec.structs.replace(one, memory_bytes=alone_bytes) for one in members(asked)]
    pool = Pool("NVIDIA H100 80GB HBM3", 1, 1, tuple(inside))

    made = spec_of(
        Choice(demand=asked[0], options=(), pool=pool, alternatives=(), frontier=(), why=""),
        "hf://org/m",
    )

    ((_, role),) = made.variants[0].topology.roles()
    assert role.memory == claimed
    assert made.pool == "tail-nvidia-h100-80gb-hbm3-1"
    assert made.variants[0].placement.device_model == pool.device


def test_who_shares_a_place_waits_until_the_other_one_has_left_and_no_longer():
    first, second = tail(2, 0.001, ttft_s=6.0)
    one = members([first])[0]
    switch_s = TURN_S + DRAIN_MIN_S + one.falls_s + one.wake_s + one.first_s
    for ttft_s, share in ((switch_s + 0.01, 1.0), (switch_s - 0.01, 0.5)):
        asked = [msgspec.structs.replace(d, slo=Slo(ttft_s=ttft_s)) for d in (first, second)]
        both = [msgspec.structs.replace(one, model=d.model) for d in asked]
        played = rehearse_pool(both, {d.model: d for d in asked}, 1, seed=1)
        assert all(found == pytest.approx(share, abs=0.08) for found in played.share.values())
        apart = rehearse_pool(both, {d.model: d for d in asked}, 2, seed=1)
        assert all(found > 0.99 for found in apart.share.values())
