"""Workers that come and go while a plan is played: when they serve, what they hold and lose."""

import pytest
from planner_world import Linear, demand

from pipelines.planner.elastic import rehearse_scaled
from pipelines.planner.rates import Aggregated, Disaggregated
from pipelines.planner.rehearsal import least, poisson, rehearse
from registry.spec import Role

TIMES = Linear(kv_tokens=200_000, base_s=0.01, token_s=1e-4)
PAIR = Disaggregated(1, TIMES, 4096, 1, TIMES, 25e9)
EVERY_S = 5.0


class Says:
    """Answers from a script of (time, role, workers)."""

    every_s = EVERY_S

    def __init__(self, *script):
        self.script = script
        self.seen = []
        self.ended = []

    def wanted(self, workers, ended, now):
        self.seen.append((now, workers))
        self.ended += ended
        return {role: count for at, role, count in self.script if at == now}


def spy(sizes):
    def choose(loads):
        sizes.append(len(loads))
        return least(loads)

    return choose


@pytest.mark.parametrize("group", [Aggregated(2, TIMES, 2048), PAIR])
def test_whoever_scales_nothing_changes_nothing(group):
    asked = demand()
    arrivals = poisson(asked, 4.0, seed=1, requests=200)
    scaler = Says()
    seen = rehearse_scaled(group, asked, arrivals, scaler)
    assert seen.outcome == rehearse(group, asked, arrivals)
    span_s = arrivals[-1].at_s
    counts = [2] if isinstance(group, Aggregated) else [1, 1]
    assert list(seen.held_s.values()) == pytest.approx([span_s * n for n in counts])
    assert list(seen.most.values()) == counts
    told = [job.arrival for job in scaler.ended]
    assert len(told) == len(set(map(id, told))) > 180, "each once, but for those at the end"


def test_a_new_worker_serves_after_its_start_and_not_before():
    asked = demand()
    arrivals = poisson(asked, 10.0, seed=1, requests=600)
    sizes = []
    scaler = Says((10.0, Role.UNIFIED, 3))
    seen = rehearse_scaled(
        Aggregated(1, TIMES, 2048), asked, arrivals, scaler, start_s=20.0, choose=spy(sizes)
    )
    before = sum(one.at_s < 30.0 for one in arrivals)
    assert sizes == [1] * before + [3] * (len(arrivals) - before)
    last_s = arrivals[-1].at_s
    assert seen.held_s[Role.UNIFIED] == pytest.approx(last_s + 2 * (last_s - 10.0))
    assert seen.most[Role.UNIFIED] == 3
    ready = {one.ready_s for at, workers in scaler.seen if at == 15.0 for one in workers}
    assert ready == {0.0, 30.0}


def test_more_workers_are_worth_what_they_are_worth_from_the_start():
    asked = demand()
    arrivals = poisson(asked, 10.0, seed=1, requests=2000)
    fixed = rehearse(Aggregated(1, TIMES, 2048), asked, arrivals)
    more = rehearse(Aggregated(3, TIMES, 2048), asked, arrivals)
    scaler = Says((EVERY_S, Role.UNIFIED, 3))
    seen = rehearse_scaled(Aggregated(1, TIMES, 2048), asked, arrivals, scaler, start_s=0.0)
    assert fixed.share < 0.2
    assert more.share > 0.9
    assert seen.outcome.share == pytest.approx(more.share, abs=0.02)


@pytest.mark.parametrize("role", [Role.PREFILL, Role.DECODE])
def test_who_leaves_takes_no_more_and_loses_nothing(role):
    asked = demand()
    arrivals = poisson(asked, 6.0, seed=2, requests=300)
    group = Disaggregated(2, TIMES, 4096, 2, TIMES, 25e9)
    scaler = Says((10.0, role, 1))
    seen = rehearse_scaled(group, asked, arrivals, scaler)
    assert seen.outcome.answered == 300
    leaving = [one for at, workers in scaler.seen if at > 10.0 for one in workers if one.leaves]
    assert {one.ordinal for one in leaving} <= {1}
    last_s = arrivals[-1].at_s
    assert last_s + 10.0 <= seen.held_s[role] < 2 * last_s - EVERY_S
    other = Role.DECODE if role is Role.PREFILL else Role.PREFILL
    assert seen.held_s[other] == pytest.approx(2 * last_s)


def test_who_left_is_another_worker_when_it_is_wanted_again():
    asked = demand()
    arrivals = poisson(asked, 4.0, seed=3, requests=400)
    scaler = Says((10.0, Role.UNIFIED, 1), (15.0, Role.UNIFIED, 2))
    rehearse_scaled(Aggregated(2, TIMES, 2048), asked, arrivals, scaler, start_s=30.0)
    _, workers = scaler.seen[-1]
    assert [(one.ordinal, one.began_s, one.ready_s) for one in workers] == [
        (0, 0.0, 0.0),
        (1, 15.0, 45.0),
    ]


def test_what_is_seen_of_engines_is_what_they_did():
    asked = demand(prompt=1000, answer=100, cv=0)
    arrivals = poisson(asked, 2.0, seed=1, requests=100)
    scaler = Says()
    rehearse_scaled(PAIR, asked, arrivals, scaler)
    now, (prefill, decode) = scaler.seen[-1]
    done = len(scaler.ended)
    assert prefill.prompt_tokens >= 1000 * done
    assert decode.answer_tokens >= 100 * done
    assert decode.prompt_tokens == prefill.answer_tokens == 0
    came = sum(one.at_s <= now for one in arrivals)
    assert prefill.running + prefill.waiting + decode.running + decode.waiting <= came - done
    busy = [one for _, workers in scaler.seen for one in workers if one.running]
    assert busy
    assert all(0 < one.kv_usage <= 1 for one in busy)
