"""What the formulas promise, and that the rehearsal bears them out."""

import msgspec
import pytest
from planner_world import Linear, demand, times_of

from pipelines.planner.demand import Length, sampled, spread
from pipelines.planner.engine import Arrival
from pipelines.planner.rates import Aggregated, Disaggregated, rate_within
from pipelines.planner.rehearsal import poisson, rate_rehearsed, rehearse
from pipelines.planner.times import Worker

FABRIC = 25e9


def aggregated(workers=2, devices=1, batched=2048, gib=16.0):
    return Aggregated(workers, times_of(gib)(Worker("vllm", "H100", devices, batched)), batched)


def pair(prefills=1, decodes=1, devices=1, gib=16.0):
    times = times_of(gib)(Worker("vllm", "H100", devices, 2048))
    return Disaggregated(prefills, times, 2048, decodes, times, FABRIC)


@pytest.mark.parametrize("group", [aggregated(), aggregated(devices=4), pair(), pair(2, 1)])
@pytest.mark.parametrize(
    "asked",
    [demand(), demand(prompt=3000, answer=100), demand(prompt=300, answer=600), demand(cv=1.0)],
)
def test_the_formula_is_within_a_third_of_the_rehearsal(group, asked):
    promised = rate_within(group, asked)
    assert promised > 0
    seen = rate_rehearsed(group, asked, promised, seed=3, requests=1500)
    assert 0.67 * promised <= seen <= 1.34 * promised


@pytest.mark.parametrize("shape", [aggregated, pair])
def test_a_looser_slo_never_holds_less(shape):
    rates = [rate_within(shape(), demand(tpot_s=t)) for t in (0.012, 0.02, 0.03, 0.05, 0.1)]
    assert rates == sorted(rates)
    rates = [rate_within(shape(), demand(ttft_s=t)) for t in (0.1, 0.3, 1.0, 3.0)]
    assert rates == sorted(rates)


def test_more_workers_hold_more():
    rates = [rate_within(aggregated(workers=n), demand()) for n in (1, 2, 4, 8)]
    assert rates == sorted(set(rates))
    assert rates[3] >= 8 * rates[0] * 0.99, "a shared queue is never worse than one each"


def test_what_the_slo_forbids_at_any_rate_holds_nothing():
    assert rate_within(aggregated(), demand(tpot_s=0.001)) == 0.0
    assert rate_within(pair(), demand(ttft_s=0.001)) == 0.0


def test_a_prompt_that_no_kv_cache_takes_holds_nothing():
    small = Linear(kv_tokens=500, base_s=0.01, token_s=1e-5)
    assert rate_within(Aggregated(1, small, 2048), demand(prompt=1000, cv=0)) == 0.0
    assert rate_within(Disaggregated(1, small, 2048, 1, small, FABRIC), demand(cv=0)) == 0.0


def test_the_rehearsal_takes_what_one_step_after_another_takes():
    # One request at a time: a prompt of 1,000 in one step, then 9 steps of one token.
    times = Linear(kv_tokens=10_000, base_s=0.01, token_s=1e-5)
    asked = demand(prompt=1000, answer=10, cv=0)
    calm = poisson(asked, 0.01, seed=1, requests=20)
    seen = rehearse(Aggregated(1, times, 2048), asked, calm)
    assert seen.ttft_s == pytest.approx((0.02, 0.02))
    assert seen.tpot_s == pytest.approx((0.01001, 0.01001))
    assert seen.answered == 20


def test_a_pairs_first_token_comes_after_the_way_of_its_kv_and_a_step_of_decode():
    times = Linear(kv_tokens=10_000, base_s=0.01, token_s=1e-5, kv_token_bytes=1_000_000)
    asked = demand(prompt=1000, answer=10, cv=0)
    group = Disaggregated(1, times, 2048, 1, times, 1e9)
    seen = rehearse(group, asked, poisson(asked, 0.01, seed=1, requests=20))
    assert seen.ttft_s[0] == pytest.approx(0.02 + 1.0 + 0.01001)
    assert seen.tpot_s[0] == pytest.approx(0.01001)


def test_a_full_kv_cache_lets_nobody_in_and_loses_nobody():
    times = Linear(kv_tokens=1300, base_s=0.01, token_s=1e-5)  # room for one at a time
    asked = demand(prompt=1000, answer=200, cv=0)
    seen = rehearse(Aggregated(1, times, 2048), asked, poisson(asked, 5.0, seed=1, requests=50))
    assert seen.answered == 50
    assert seen.ttft_s[1] > 20, "they wait for each other, two seconds each"


def test_who_is_too_long_for_the_kv_cache_is_refused_and_holds_up_nobody():
    times = Linear(kv_tokens=1300, base_s=0.01, token_s=1e-5)
    arrivals = [Arrival(float(i), Length(2000 if i == 30 else 1000, 10)) for i in range(50)]
    for group in (Aggregated(1, times, 2048), Disaggregated(1, times, 2048, 1, times, FABRIC)):
        assert rehearse(group, demand(cv=0), arrivals).answered == 49


def test_a_shape_must_hold_the_longest_request_whatever_stands_for_the_others():
    asked = demand(prompt=1000, answer=200, cv=0)
    times = Linear(kv_tokens=1300, base_s=0.001, token_s=1e-6)
    longer = msgspec.structs.replace(asked, longest_tokens=1301)
    for group in (Aggregated(1, times, 2048), Disaggregated(1, times, 2048, 1, times, FABRIC)):
        assert rate_within(group, asked)
        assert not rate_within(group, longer)


def test_the_same_seed_plays_the_same():
    asked = demand()
    one, two = (
        rehearse(aggregated(), asked, poisson(asked, 3.0, seed=5, requests=300)) for _ in range(2)
    )
    assert one == two


def test_lengths_keep_their_means_and_are_not_tied_to_each_other():
    lengths = spread(1000, 200, 1.0, 64)
    assert sum(one.prompt for one in lengths) / 64 == pytest.approx(1000, rel=0.05)
    assert sum(one.answer for one in lengths) / 64 == pytest.approx(200, rel=0.05)
    longest = sorted(lengths, key=lambda one: one.prompt)[-16:]
    assert 100 < sum(one.answer for one in longest) / 16 < 300
    assert sampled([Length(i, 1) for i in range(1000)], 4) == tuple(
        Length(i, 1) for i in (125, 375, 625, 875)
    )
