"""The autoscaler on a day of the Azure traces: as good as a fleet for the peak, with fewer GPUs."""

import json

import pytest
from simulation.autoscaling.__main__ import main
from simulation.autoscaling.contest import MET_MIN, fixed, scaled, smallest
from simulation.autoscaling.fleet import Fleet, Policy
from simulation.autoscaling.loads import LATE, Mix, day

# What `make bench-autoscaling` finds: the fewest fixed workers that meet the targets for 99 % of
# this day, and the settings and the ratio that meet them.
SMALLEST = (15, 6)
ALONE = Policy(stable_s=420.0, kv_usage_max=0.75)
RATIO = Policy(stable_s=420.0, kv_usage_max=0.75, ratio=2.5)


@pytest.fixture(scope="module")
def load():
    return day(Mix(4, 2), half=LATE, seed=2)


@pytest.fixture(scope="module")
def ours(load):
    return scaled(load, ALONE, "ours", seed=2).outcome


def test_it_meets_the_targets_as_the_smallest_fixed_fleet_with_far_fewer_gpu_hours(load, ours):
    theirs = fixed(load, SMALLEST, "fixed").outcome
    assert theirs.met >= MET_MIN

    assert ours.met >= MET_MIN
    assert ours.gpu_hours < 0.85 * theirs.gpu_hours


def test_each_role_alone_meets_the_targets_with_fewer_gpu_hours_than_both_at_a_ratio(load, ours):
    """By the same settings. What the ratio takes along and nobody asked for makes a few requests
    quicker (99.97 % met against 99.62 %), so that leaner settings do for it: no gain at equal
    attainment, README.md says.
    """
    theirs = scaled(load, RATIO, "ratio", seed=2).outcome

    assert min(ours.met, theirs.met) >= MET_MIN
    assert ours.gpu_hours < 0.95 * theirs.gpu_hours


def test_the_same_load_gives_the_same_decisions():
    load = day(Mix(1, 1), half=LATE, seed=1)[:20_000]

    first, again = (scaled(load, ALONE, "ours", seed=1).outcome for _ in range(2))

    assert first == again
    assert first.reasons


def test_a_fleet_that_is_looked_at_until_too_many_are_late_is_told_as_one_that_is_run():
    load = day(Mix(1, 1), half=LATE, seed=1)[:3000]

    for size in ((2, 1), (3, 1), (4, 2)):
        assert Fleet(size).meets(load, MET_MIN) == (Fleet(size).run(load).met >= MET_MIN)


def test_no_smaller_fixed_size_meets_the_targets():
    load = day(Mix(1, 1), half=LATE, seed=1)[:1500]
    prefill, decode = smallest(load)

    total = prefill + decode
    assert Fleet((prefill, decode)).run(load).met >= MET_MIN
    for other in range(1, total - 1):
        assert Fleet((other, total - 1 - other)).run(load).met < MET_MIN


def test_the_bench_chooses_on_one_day_judges_on_others_and_tells_people_and_machines(
    tmp_path, capsys
):
    out = tmp_path / "autoscaling.json"

    main(["--until-s", "60", "--out", str(out)])

    told = json.loads(out.read_bytes())
    tried = [json.dumps(one["policy"]) for one in told["on"]["entries"]]
    assert {json.dumps(one["policy"]) for one in told["chosen"]} <= set(tried)
    assert len(told["judged"]) == 3
    for contest in told["judged"]:
        assert contest["load"] != told["on"]["load"]
        *scaled_ones, as_chosen, own, mean = contest["entries"]
        assert {json.dumps(one["policy"]) for one in scaled_ones} <= set(tried)
        assert as_chosen["workers"] == told["chosen"][-1]["workers"]
        assert own["policy"] is mean["policy"] is None
    seen = capsys.readouterr()
    assert "judged" in seen.out
    assert "16 of 16" in seen.err
