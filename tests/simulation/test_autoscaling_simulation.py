"""The autoscaler on a day of the Azure traces: as good as a fleet for the peak, with fewer GPUs."""

import pytest
from simulation.autoscaling.contest import MET_MIN, fixed, per_role, shared
from simulation.autoscaling.loads import day

# What `make bench-autoscaling` finds: the fewest fixed workers that meet the targets for 99 %, and
# the best of the ratios.
SMALLEST = (18, 7)
RATIO = 2.0
START = (8, 3)


@pytest.fixture(scope="module")
def load():
    return day(code=4, conv=2, seed=1)


@pytest.fixture(scope="module")
def ours(load):
    return per_role(load, START).outcome


def test_it_meets_the_targets_as_the_smallest_fixed_fleet_with_far_fewer_gpu_hours(load, ours):
    theirs = fixed(load, SMALLEST, "fixed").outcome
    assert theirs.met >= MET_MIN

    assert ours.met >= theirs.met - 0.01
    assert ours.gpu_hours < 0.85 * theirs.gpu_hours


def test_each_role_alone_meets_the_targets_with_fewer_gpu_hours_than_both_at_a_ratio(load, ours):
    """What the ratio takes along and nobody asked for makes a few requests quicker (99.8 % met
    against 99.6 %); either is above what is asked for.
    """
    theirs = shared(load, START, RATIO).outcome

    assert min(ours.met, theirs.met) >= MET_MIN
    assert ours.met >= theirs.met - 0.005
    assert ours.gpu_hours < 0.95 * theirs.gpu_hours


def test_the_same_load_gives_the_same_decisions():
    load = day(code=1, conv=1, seed=1)[:20_000]

    first, again = (per_role(load, START).outcome for _ in range(2))

    assert first == again
    assert first.reasons
