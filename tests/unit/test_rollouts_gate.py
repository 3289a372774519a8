"""The gate of a rollout: what the new revision's requests say against the old one's."""

import msgspec
import pytest
from courses import Course, capacity
from fleets import unified, with_spec

from pipelines.rollouts import Step
from pipelines.rollouts.gate import Outcome, judge
from registry.spec import Gate, RolloutPolicy, from_data
from registry.state import Phase, Rollout, RolloutState
from registry.traffic import Latencies, StepTraffic

GATE = Gate(watch_s=30.0, requests_min=20, error_rate_max=0.02, ttft_ratio_max=1.5)
SPEC = unified("m").spec


def a_rollout(**changes):
    rollout = Rollout(
        model="m",
        from_revision=1,
        to_revision=2,
        base=SPEC,
        policy=RolloutPolicy(canary=(25, 100), gate=GATE),
        state=RolloutState.PROGRESSING,
        step=1,
        percent=25,
        step_at=100.0,
        reason="",
        created_at=0.0,
        ended_at=None,
    )
    return msgspec.structs.replace(rollout, **changes)


def seen(revision, *, requests=100, errors=0, ttft_s=0.0, tpot_s=0.0, **told):
    def times(seconds):
        return Latencies.of((seconds,) * requests) if seconds else Latencies()

    facts = {"model": "m", "variant": "default", "percent": 25, "since": 100.0, "until": 110.0}
    return StepTraffic(
        **{**facts, **told},
        revision=revision,
        requests=requests,
        errors=errors,
        ttft=times(ttft_s),
        tpot=times(tpot_s),
    )


def verdict(*rows, now=200.0, gate=GATE):
    return judge(gate, a_rollout(), SPEC, rows, now)


def test_as_good_as_the_old_one_it_passes():
    found = verdict(
        seen(1, errors=5, ttft_s=0.1, tpot_s=0.01), seen(2, errors=5, ttft_s=0.1, tpot_s=0.01)
    )
    assert (found.outcome, found.why) == (Outcome.PASSED, "")


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        (0, 2, Outcome.PASSED),
        (0, 3, Outcome.FAILED),
        (10, 12, Outcome.PASSED),
        (10, 13, Outcome.FAILED),
    ],
)
def test_its_error_rate_may_be_so_much_above_the_old_one_s(old, new, outcome):
    found = verdict(seen(1, errors=old), seen(2, errors=new))
    assert found.outcome is outcome
    if outcome is Outcome.FAILED:
        assert found.why.startswith(f"{new}.0% of its requests fail ({old}.0% of the old")


def test_errors_are_told_before_its_time_is_over_and_speed_is_not():
    assert verdict(seen(1), seen(2, errors=50), now=105.0).outcome is Outcome.FAILED
    slow = (seen(1, ttft_s=0.1), seen(2, ttft_s=1.0))
    assert verdict(*slow, now=129.0).outcome is Outcome.WAITS
    assert verdict(*slow, now=130.0).outcome is Outcome.FAILED


@pytest.mark.parametrize("field", ["ttft_s", "tpot_s"])
def test_its_median_may_be_so_many_times_the_old_one_s(field):
    name = field[:4].upper()
    assert verdict(seen(1, **{field: 0.1}), seen(2, **{field: 0.12})).outcome is Outcome.PASSED
    found = verdict(seen(1, **{field: 0.1}), seen(2, **{field: 0.4}))
    assert found.outcome is Outcome.FAILED
    assert f"its median {name} is" in found.why
    assert "allowed are 1.5 times" in found.why


@pytest.mark.parametrize(
    ("field", "before_s", "mine_s", "outcome"),
    [
        ("ttft_s", 0.001, 0.004, Outcome.PASSED),
        ("ttft_s", 0.001, 0.02, Outcome.FAILED),
        ("tpot_s", 0.0005, 0.0015, Outcome.PASSED),
        ("tpot_s", 0.0005, 0.006, Outcome.FAILED),
    ],
)
def test_a_few_milliseconds_more_are_many_times_nothing(field, before_s, mine_s, outcome):
    found = verdict(seen(1, **{field: before_s}), seen(2, **{field: mine_s}))
    assert found.outcome is outcome


def test_with_too_few_requests_it_waits_however_they_went():
    found = verdict(seen(1), seen(2, requests=19, errors=19))
    assert found.outcome is Outcome.WAITS
    assert found.why == "watches the gate: fewer than 20 requests so far"
    assert verdict().outcome is Outcome.WAITS


def test_what_too_few_of_the_old_ones_took_is_no_measure():
    assert verdict(seen(1, requests=19, ttft_s=0.1), seen(2, ttft_s=9.0)).outcome is Outcome.PASSED


def test_only_what_came_since_its_step_and_is_its_own_counts():
    strange = (
        seen(2, errors=100, since=99.0),
        seen(3, errors=100),
    )
    assert verdict(*strange).outcome is Outcome.WAITS
    assert verdict(*strange, seen(2), seen(1)).outcome is Outcome.PASSED


def test_what_shadows_do_with_their_copies_is_no_matter_of_it():
    data = msgspec.to_builtins(SPEC)
    shadow = {**data["variants"][0], "name": "try", "weight": 0, "shadow_percent": 50.0}
    spec = from_data({**data, "variants": [*data["variants"], shadow]})
    rows = [seen(1), seen(2), seen(2, errors=100, variant="try")]
    found = judge(GATE, a_rollout(base=spec), spec, rows, 200.0)
    assert found.outcome is Outcome.PASSED


def gated(**policy):
    """A rollout at 25 % whose gate sees what `traffic` says."""
    model = unified("m", workers=4)
    gate = {"watch_s": 5.0, "requests_min": 20}
    rollout = {"canary": [25, 100], "gate": gate, **policy}
    spec = with_spec(model, topology={"args": {"seed": 1}}, rollout=rollout).spec
    course = Course(capacity(model, slots=8), spec)
    course.turns(2)
    assert course.rollout.percent == 25
    return course


def at_its_step(course, errors=0):
    since = course.rollout.step_at
    course.traffic = [seen(1, since=since), seen(2, since=since, errors=errors)]


def test_one_that_fails_is_rolled_back():
    course = gated()
    at_its_step(course, errors=10)
    course.turn()
    assert course.moves[-1] == (Step.FAIL, 0)
    assert course.rollout is None
    course.turns(2)
    assert {worker.plan.revision for worker in course.snapshot.workers} == {1}


def test_one_that_fails_stands_still_where_nothing_is_rolled_back():
    course = gated(rollback=False)
    at_its_step(course, errors=10)
    course.turns(3)
    assert course.rollout.state is RolloutState.STALLED
    assert course.rollout.reason.startswith("the gate failed: 10.0% of its requests fail")
    assert course.rollout.percent == 25


def test_one_that_is_paused_is_rolled_back_too():
    course = gated()
    course.change_rollout(state=RolloutState.PAUSED)
    course.turns(20)
    at_its_step(course, errors=10)
    course.turn()
    assert course.rollout is None


def test_one_that_waits_for_requests_is_not_held_to_its_time():
    course = gated(ready_s=20.0)
    course.turns(100)
    assert course.rollout.percent == 25
    assert "fewer than 20 requests" in course.rollout.reason
    at_its_step(course)
    course.run()
    assert course.moves[-1] == (Step.FINISH, 100)


def test_without_any_worker_no_gate_is_waited_for_longer_than_they_may_take():
    course = gated(ready_s=20.0)
    course.turns(100)
    course.never_again()
    for worker in course.of(2):
        course.end(worker, Phase.FAILED)
    course.turns(15)
    assert course.rollout.percent == 25
    course.turns(10)
    assert course.moves[-1] == (Step.FAIL, 0)
    assert course.rollout is None


def test_without_room_the_traffic_does_not_pass_a_gate_that_waits():
    model = unified("m", workers=4)
    rollout = {"canary": [25, 100], "gate": {"watch_s": 5.0, "requests_min": 20}}
    spec = with_spec(model, topology={"args": {"seed": 1}}, rollout=rollout).spec
    course = Course(capacity(model, slots=4), spec)
    course.turns(60)
    assert course.rollout.percent == 25
    at_its_step(course)
    course.run()
    assert [percent for _, percent in course.moves] == [25, 50, 75, 100, 100]
