"""Who wakes and who makes room where an owner may hold only so much."""

import pytest
from awake_world import NOW, Pooled
from fleets import GIB

from pipelines.awake import arrange
from registry.state import Quota

FOUR_GIB = (Quota(owner="o", memory_bytes=4 * GIB), Quota(owner="o", devices=1))


@pytest.mark.parametrize("quota", FOUR_GIB)
def test_who_is_over_its_quota_takes_nobodys_place(quota):
    pool = Pooled(memory_gib=8).awake("a", pool="").asleep("b", "c").owned("o", "a", "b")
    pool.asks("b", NOW - 5).asks("c", NOW - 1)
    both = {"b": "1 request waits", "c": "1 request waits"}

    told = arrange(pool.snapshot(quotas=[quota]), NOW)
    assert told.wake == both, "b is tried, and refused in words; its room is not kept for it"

    pool.awake("d").asked("d", NOW - 60)
    told = arrange(pool.snapshot(quotas=[quota]), NOW)
    assert (told.sleep, told.leave) == ({"d": "makes room for c (pool tail)"}, {})
    assert arrange(pool.snapshot(quotas=[quota]), NOW + 30).leave == {}, "it would help nobody"


@pytest.mark.parametrize("quota", FOUR_GIB)
def test_whose_quota_is_used_up_by_one_of_its_pool_gets_the_place_of_that_one(quota):
    pool = Pooled(memory_gib=16).awake("a", "x", since=1.0).asleep("b").owned("o", "a", "b")
    pool.asks("b", NOW - 1)

    told = arrange(pool.snapshot(quotas=[quota]), NOW)

    assert (told.wake, told.sleep) == ({}, {"a": "makes room for b (pool tail)"})


@pytest.mark.parametrize("quota", FOUR_GIB)
def test_quotas_of_others_hold_nobody_back(quota):
    pool = Pooled(memory_gib=16).awake("a").asleep("b").owned("o", "a").asks("b", NOW - 1)

    assert arrange(pool.snapshot(quotas=[quota]), NOW).wake.keys() == {"b"}
