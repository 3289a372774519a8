"""A model changes while it serves: which workers come and go, and in which order."""

import msgspec
import pytest
from courses import Course, capacity
from fleets import a_snapshot, disaggregated, external, unified, with_spec, workers_of

from pipelines.conditions import condition
from pipelines.plan import with_specs
from pipelines.reconciler import reconcile
from pipelines.rollouts import Step
from pipelines.rollouts.scene import is_proven
from pipelines.topology import expand
from registry.spec import Locality, Role, from_data
from registry.state import NodeState, Phase, RoleScale, RolloutState

CANARY = {"canary": [25, 100]}


def changed(model, **fields):
    """Its spec with a flag that needs new workers."""
    return with_spec(model, topology={"args": {"seed": 1}}, **fields).spec


def other(model, topology, **fields):
    """Its spec with another topology."""
    spec = msgspec.to_builtins(model.spec)
    spec["variants"][0]["topology"] = msgspec.to_builtins(topology.spec.variants[0].topology)
    return from_data({**spec, **fields})


def renamed(model, name, **fields):
    """Its spec with its one variant under another name."""
    data = msgspec.to_builtins(model.spec)
    return from_data({**data, "variants": [{**data["variants"][0], "name": name}], **fields})


def test_what_replaces_no_worker_is_over_at_once():
    model = unified("m", workers=2)
    for spec in (
        with_spec(model, limits={"queued": 7}).spec,
        with_spec(model, topology={"workers": 3}).spec,
        with_spec(model, topology={"workers": 1}).spec,
    ):
        course = Course(capacity(model, slots=4), spec)
        course.turn()
        assert course.moves == [(Step.FINISH, 100)]
        assert course.rollout is None


def test_fewer_workers_go_at_once_and_more_come_at_once():
    model = unified("m", workers=2)
    course = Course(capacity(model, slots=4), with_spec(model, topology={"workers": 1}).spec)
    course.turn()
    assert len(course.of(1)) == 1
    course = Course(capacity(model, slots=4), with_spec(model, topology={"workers": 3}).spec)
    course.turn()
    assert len(course.of(2)) == 1


def test_with_room_the_new_ones_come_first_and_the_old_ones_serve_until_all_are_ready():
    model = unified("m", workers=3)
    course = Course(capacity(model, slots=6), changed(model), ready_after=3)
    course.turns(3)
    assert len(course.of(1, Phase.READY)) == 3
    assert course.rollout.percent == 0
    course.run()
    assert course.moves == [(Step.ENTER, 100), (Step.FINISH, 100)]
    assert (len(course.of(1)), len(course.of(2, Phase.READY))) == (0, 3)


def test_from_aggregated_to_a_pair_the_old_ones_serve_until_the_new_ones_are_ready():
    model = unified("m", workers=3)
    spec = other(model, disaggregated("m", prefill=2))
    course = Course(capacity(model, slots=6), spec, ready_after=3)
    course.turns(3)
    assert course.ready(Role.UNIFIED) == 3
    course.run(look=lambda course: course.ready() >= 3 or pytest.fail("too few serve"))
    roles = sorted(worker.plan.role for worker in course.snapshot.workers)
    assert roles == [Role.DECODE, Role.PREFILL, Role.PREFILL]


@pytest.mark.parametrize("name", ["renamed", "removed"])
def test_the_workers_of_a_variant_that_goes_serve_until_the_new_ones_are_ready(name):
    model = unified("m", workers=2)
    course = Course(capacity(model, slots=4), renamed(model, name), ready_after=2)
    course.run(look=lambda course: course.ready() >= 2 or pytest.fail("too few serve"))
    assert {worker.plan.variant for worker in course.snapshot.workers} == {name}


def test_a_canary_takes_its_share_and_the_old_ones_stay_until_the_last_step():
    model = unified("m", workers=4)
    course = Course(capacity(model, slots=8), changed(model, rollout=CANARY))
    course.turns(2)
    assert (course.rollout.percent, len(course.of(2))) == (25, 1)
    course.run()
    assert course.moves == [(Step.ENTER, 25), (Step.ENTER, 100), (Step.FINISH, 100)]


def test_a_step_is_left_when_its_time_is_over_and_not_before_the_next_workers_begin():
    model = unified("m", workers=4)
    policy = {**CANARY, "pause_s": 10.0}
    course = Course(capacity(model, slots=8), changed(model, rollout=policy))
    course.turns(8)
    assert (course.rollout.percent, len(course.of(2))) == (25, 1)
    assert course.rollout.reason == "stays there for 10 s"
    course.run()
    assert course.moves[-1] == (Step.FINISH, 100)


@pytest.mark.parametrize("state", [RolloutState.PAUSED, RolloutState.STALLED])
def test_one_that_is_paused_or_stalled_stays_as_it_is(state):
    model = unified("m", workers=4)
    course = Course(capacity(model, slots=8), changed(model, rollout=CANARY))
    course.turns(2)
    course.change_rollout(state=state)
    before = {worker.id for worker in course.snapshot.workers}
    course.turns(50)
    assert {worker.id for worker in course.snapshot.workers} == before
    assert course.rollout.percent == 25


def test_without_room_one_after_the_other_makes_way_and_the_traffic_follows():
    model = unified("m", workers=4)
    course = Course(capacity(model, slots=4), changed(model))
    course.run(look=lambda course: course.ready() >= 3 or pytest.fail("too few serve"))
    assert course.moves == [
        (Step.SHIFT, 25),
        (Step.SHIFT, 50),
        (Step.SHIFT, 75),
        (Step.ENTER, 100),
        (Step.FINISH, 100),
    ]


def test_a_single_worker_without_room_beside_it_goes_first():
    model = unified("m")
    course = Course(capacity(model, slots=1), changed(model))
    course.turn()
    assert course.snapshot.workers == ()
    course.run()
    assert len(course.of(2, Phase.READY)) == 1


@pytest.mark.parametrize("limit", [{"max_unavailable": 0}, {"min_available": 1}])
def test_a_single_worker_that_may_not_lack_stays_and_the_change_is_taken_back(limit):
    model = unified("m")
    model = with_spec(model, topology=limit)
    spec = changed(model, rollout={"ready_s": 20.0})
    course = Course(capacity(model, slots=1), spec)
    course.turns(10)
    assert "max_unavailable" in course.stay["m"]
    course.run(look=lambda course: course.ready() == 1 or pytest.fail("nobody serves"))
    assert course.moves == [(Step.FAIL, 0)]
    assert course.model.spec == model.spec


def test_the_old_ones_of_other_roles_make_way_as_few_as_suffice():
    model = unified("m", workers=4)
    spec = other(model, disaggregated("m", prefill=2))
    course = Course(capacity(model, slots=5), spec, ready_after=2)
    course.turn()
    assert len(course.of(1)) == 3  # one place is free, one more is needed
    course.run(look=lambda course: course.ready() >= 2 or pytest.fail("too few serve"))
    assert len(course.of(2, Phase.READY)) == 3


def test_its_model_s_condition_says_how_far_it_is_and_what_it_waits_for():
    model = unified("m", workers=4)
    policy = {**CANARY, "pause_s": 60.0}
    course = Course(capacity(model, slots=8), changed(model, rollout=policy))
    course.turns(4)
    text = condition(course.model, course.snapshot.workers, "no place for it", "who stays")
    assert text == (
        "rollout to revision 2: 25 % of the traffic, stays there for 60 s; no place for it; "
        "who stays"
    )
    course.change_rollout(state=RolloutState.PAUSED, reason="was paused: resume to go on")
    assert condition(course.model, (), "") == (
        "rollout to revision 2 paused: 25 % of the traffic, was paused: resume to go on"
    )


def test_more_may_lack_than_have_to():
    model = unified("m", workers=4)
    lenient = with_spec(disaggregated("m", prefill=2), topology={"prefill": {"max_unavailable": 4}})
    course = Course(capacity(model, slots=5), other(model, lenient))
    course.turn()
    assert len(course.of(1)) == 3


def test_nobody_makes_way_where_that_would_not_suffice():
    model = unified("m", workers=2)
    topology = disaggregated("m", prefill=1, devices=2)
    spec = other(model, topology)
    course = Course(capacity(model, slots=2), spec)
    course.turns(5)
    assert len(course.of(1, Phase.READY)) == 2
    assert "max_unavailable" in course.stay["m"]


def test_not_more_than_the_surge_live_at_once():
    model = with_spec(unified("m", workers=4), topology={"max_surge": 1, "max_unavailable": 0})

    def look(course):
        assert len(course.snapshot.workers) <= 5  # with those that leave
        assert course.ready() >= 4

    course = Course(capacity(model, slots=12), changed(model), ready_after=2, gone_after=3)
    course.run(look=look)
    assert len(course.of(2, Phase.READY)) == 4


def test_without_surge_the_old_ones_go_first():
    model = with_spec(unified("m", workers=4), topology={"max_surge": 0})

    def look(course):
        assert len(course.snapshot.workers) <= 4
        assert course.ready() >= 3

    Course(capacity(model, slots=12), changed(model), ready_after=2).run(look=look)


def test_a_pair_begins_as_one_of_each_role_where_the_whole_does_not_fit():
    model = unified("m", workers=2)
    spec = other(model, disaggregated("m", prefill=2))
    course = Course(capacity(model, slots=4), spec, ready_after=2)
    course.turn()
    assert sorted(w.plan.role for w in course.of(2)) == [Role.DECODE, Role.PREFILL]
    course.run(look=lambda course: course.ready() >= 2 or pytest.fail("too few serve"))
    assert len(course.of(2, Phase.READY)) == 3


def test_a_pair_that_must_be_near_begins_whole():
    model = unified("m", workers=2)
    pair = with_spec(disaggregated("m", prefill=2), topology={"locality": Locality.NODE})
    course = Course(capacity(model, slots=4), other(model, pair))
    course.turn()
    assert len(course.of(1)) == 1  # it made way for the whole pair
    assert course.of(2) == []
    course.run()
    assert len(course.of(2, Phase.READY)) == 3


def test_an_old_worker_that_dies_is_replaced_where_its_share_of_the_traffic_needs_it():
    model = unified("m", workers=4)
    policy = {**CANARY, "pause_s": 100.0}
    course = Course(capacity(model, slots=8), changed(model, rollout=policy))
    course.turns(3)
    course.end(course.of(1)[1], Phase.FAILED)
    course.turns(5)
    assert len(course.of(1)) == 3
    course.end(course.of(1)[1], Phase.FAILED)
    course.turns(5)
    assert len(course.of(1, Phase.READY)) == 3
    course.run()


def evict(course, worker):
    """As the scheduler does for another model."""
    course._drain({worker.id: "makes room for other"})


@pytest.mark.parametrize("state", [RolloutState.PAUSED, RolloutState.STALLED, None])
@pytest.mark.parametrize("slots", [4, 8])
def test_an_old_worker_that_was_evicted_at_a_step_comes_again(state, slots):
    model = unified("m", workers=4)
    policy = {**CANARY, "pause_s": 1000.0}
    course = Course(capacity(model, slots=slots), changed(model, rollout=policy))
    while course.rollout.percent != 25:
        course.turn()
    if state is not None:
        course.change_rollout(state=state)
    course.turns(3)
    for _ in range(3):
        evict(course, course.of(1, Phase.READY)[0])
        course.turns(5)
    assert (len(course.of(1, Phase.READY)), len(course.of(2, Phase.READY))) == (3, 1)


def test_an_old_worker_that_was_evicted_comes_again_beside_workers_of_another_shape():
    model = unified("m", workers=4)
    policy = {"canary": [25, 100], "pause_s": 1000.0}
    spec = other(model, disaggregated("m"), rollout=policy)
    course = Course(capacity(model, slots=8), spec)
    while course.rollout.percent != 25:
        course.turn()
    course.change_rollout(state=RolloutState.PAUSED)
    for _ in range(2):
        evict(course, course.of(1, Phase.READY)[0])
        course.turns(5)
    assert (len(course.of(1, Phase.READY)), len(course.of(2, Phase.READY))) == (3, 2)


def test_an_old_worker_that_was_evicted_comes_again_while_the_new_ones_do_not_get_ready():
    """No more than the new ones may have the place of."""
    model = unified("m", workers=4)
    course = Course(
        capacity(model, slots=4), changed(model), never=lambda worker: worker.plan.revision == 2
    )
    course.turns(5)
    assert len(course.of(1, Phase.READY)) == 3
    evict(course, course.of(1, Phase.READY)[0])
    course.turns(5)
    assert len(course.of(1, Phase.READY)) == 3


def test_one_that_made_way_does_not_come_back_for_who_took_its_place():
    model = with_spec(unified("m", workers=3), topology={"max_surge": 0})
    policy = {"canary": [50, 100], "pause_s": 1000.0}
    course = Course(capacity(model, slots=9), changed(model, rollout=policy))
    while course.rollout.percent != 50:
        course.turn()
    course.change_rollout(state=RolloutState.PAUSED)
    course.turns(10)
    assert (len(course.of(1)), len(course.of(2))) == (1, 2)


def test_what_comes_again_keeps_within_the_surge():
    model = with_spec(unified("m", workers=4), topology={"max_surge": 1})
    policy = {"canary": [50, 100], "pause_s": 1000.0}
    course = Course(capacity(model, slots=12), changed(model, rollout=policy), gone_after=3)
    while course.rollout.percent != 50:
        course.turn()
    for _ in range(30):
        if course.now % 6 == 0 and course.of(1, Phase.READY):
            evict(course, course.of(1, Phase.READY)[0])
        course.turn()
        assert len(course.snapshot.workers) <= 5
    course.turns(6)
    assert (len(course.of(1, Phase.READY)), len(course.of(2, Phase.READY))) == (2, 2)


def test_an_old_worker_that_never_served_makes_way_for_its_repair():
    model = unified("m")
    fleet = capacity(model, slots=1)
    (worker,) = fleet.workers
    starting = msgspec.structs.replace(worker, phase=Phase.STARTING, ready_at=None)
    fleet = msgspec.structs.replace(fleet, workers=(starting,))
    course = Course(fleet, changed(model), never=lambda worker: worker.plan.revision == 1)
    course.run(turns_max=10)
    assert len(course.of(2, Phase.READY)) == 1


def test_an_old_worker_that_is_started_again_to_wake_up_stays():
    model = unified("m", workers=2)
    policy = {"canary": [50, 100]}
    course = Course(capacity(model, slots=4), changed(model, rollout=policy))
    course.turns(2)
    course.change_rollout(state=RolloutState.PAUSED)
    for worker in course.of(1):
        course.phase(worker, Phase.STARTING, ready_at=1.0, turned_at=5.0)
    course.turn()
    assert len(course.of(1, Phase.READY)) == 2


def test_stopped_with_all_of_modelyard_both_revisions_come_again_by_their_shares():
    model = unified("m", workers=4)
    course = Course(capacity(model, slots=8), changed(model, rollout={**CANARY, "pause_s": 99}))
    course.turns(3)
    assert course.rollout.percent == 25
    course.change_rollout(state=RolloutState.PAUSED)
    for worker in course.snapshot.workers:
        course.end(worker, Phase.STOPPED)
    course.turns(4)
    assert (len(course.of(1, Phase.READY)), len(course.of(2, Phase.READY))) == (3, 1)


def test_a_new_one_that_dies_comes_again_and_the_old_ones_wait_for_it():
    model = unified("m", workers=2)
    course = Course(capacity(model, slots=4), changed(model), ready_after=2)
    course.turn()
    course.end(course.of(2)[0], Phase.FAILED)
    course.run(look=lambda course: course.ready() >= 2 or pytest.fail("too few serve"))
    assert course.moves == [(Step.ENTER, 100), (Step.FINISH, 100)]


def test_never_ready_it_is_rolled_back_and_what_it_started_goes():
    model = unified("m", workers=2)
    spec = changed(model, rollout={"ready_s": 30.0})
    course = Course(capacity(model, slots=4), spec, never=lambda worker: worker.plan.revision == 2)
    course.run()
    assert course.moves == [(Step.FAIL, 0)]
    course.turn()
    assert {w.plan.revision for w in course.snapshot.workers} == {1}
    assert course.model.spec == model.spec


def test_never_ready_it_stands_still_where_nothing_is_to_be_rolled_back():
    model = unified("m")
    spec = changed(model, rollout={"ready_s": 30.0, "rollback": False})
    course = Course(capacity(model, slots=2), spec, never=lambda w: w.plan.revision == 2)
    course.turns(60)
    assert course.rollout.state is RolloutState.STALLED
    assert course.rollout.reason == "after 30 s only default: 0 of 1 unified ready"
    assert len(course.of(1, Phase.READY)) == 1


def test_of_one_that_never_got_ready_it_says_how_its_last_worker_failed():
    model = unified("m")
    spec = changed(model, rollout={"ready_s": 5.0, "rollback": False})
    course = Course(capacity(model, slots=2), spec, never=lambda w: w.plan.revision == 2)
    course.turn()
    course.phase(course.of(2)[0], Phase.STARTING, reason="no such flag")
    course.end(course.of(2)[0], Phase.FAILED)
    course.turns(20)
    assert course.rollout.reason == (
        "after 5 s only default: 0 of 1 unified ready; the last one failed: no such flag"
    )


def test_time_at_a_step_is_not_held_against_the_next_workers():
    model = unified("m", workers=4)
    policy = {**CANARY, "pause_s": 100.0, "ready_s": 30.0}
    course = Course(capacity(model, slots=8), changed(model, rollout=policy), ready_after=10)
    course.run()
    assert course.moves[-1] == (Step.FINISH, 100)


def test_rolled_back_half_way_the_old_workers_are_there_and_the_new_ones_go():
    model = unified("m", workers=4)
    policy = {"canary": [50, 100], "pause_s": 100.0}
    course = Course(capacity(model, slots=8), changed(model, rollout=policy))
    course.turns(4)
    assert course.rollout.percent == 50
    course.change(spec=model.spec, revision=3, rollout=None)
    course.turns(2)
    assert len(course.of(1, Phase.READY)) == 4
    assert len(course.snapshot.workers) == 4


def test_rolled_back_without_room_the_new_ones_serve_until_the_old_ones_are_back():
    model = unified("m", workers=4)
    course = Course(capacity(model, slots=4), changed(model))
    while course.rollout.percent < 50:
        course.turn()
    course.change(spec=model.spec, revision=3, rollout=None)
    for _ in range(20):
        course.turn()
        assert course.ready() >= 2
    assert {w.plan.fingerprint for w in course.snapshot.workers} == {
        w.plan.fingerprint for w in capacity(model, slots=4).workers
    }
    assert course.ready() == 4


def two_variants(model, *names):
    variant = msgspec.to_builtins(model.spec)["variants"][0]
    data = {**msgspec.to_builtins(model.spec), "variants": [{**variant, "name": n} for n in names]}
    return from_data(data)


def test_a_variant_that_is_only_removed_goes_at_the_last_step():
    model = unified("m")
    model = msgspec.structs.replace(model, spec=two_variants(model, "one", "two"))
    course = Course(capacity(model, slots=2), two_variants(model, "one"))
    course.run()
    assert course.moves == [(Step.ENTER, 100), (Step.FINISH, 100)]
    course.turn()
    assert [worker.plan.variant for worker in course.snapshot.workers] == ["one"]


def test_a_variant_that_is_added_is_ready_before_it_takes_traffic():
    model = unified("m")
    model = msgspec.structs.replace(model, spec=two_variants(model, "one"))
    course = Course(capacity(model, slots=3), two_variants(model, "one", "two"), ready_after=3)
    course.turns(3)
    assert course.rollout.percent == 0
    course.run()
    assert {w.plan.variant for w in course.snapshot.workers} == {"one", "two"}


def test_what_a_superseded_one_started_ends_and_the_base_serves_on():
    model = unified("m", workers=2)
    course = Course(capacity(model, slots=6), changed(model, rollout={"canary": [50, 100]}))
    course.turns(2)
    assert course.rollout.percent == 50
    third = with_spec(model, topology={"args": {"seed": 3}}).spec
    course.snapshot, _ = with_specs(course.snapshot, [third], course.now)
    assert (course.rollout.from_revision, course.rollout.to_revision) == (1, 3)
    course.run(look=lambda course: course.ready() >= 2 or pytest.fail("too few serve"))
    assert len(course.of(3, Phase.READY)) == len(course.snapshot.workers) == 2


def test_back_to_what_serves_is_over_at_once():
    model = unified("m", workers=2)
    course = Course(capacity(model, slots=6), changed(model))
    course.turns(1)
    course.snapshot, _ = with_specs(course.snapshot, [model.spec], course.now)
    course.turns(2)
    assert course.moves == [(Step.FINISH, 100)]
    assert {worker.plan.revision for worker in course.snapshot.workers} == {1}


def test_back_to_the_base_without_room_the_workers_in_between_keep_the_minimum():
    model = with_spec(unified("m", workers=4), topology={"min_available": 3})
    policy = {"canary": [75, 100], "pause_s": 1000.0}
    course = Course(capacity(model, slots=4), changed(model, rollout=policy), ready_after=3)
    while course.rollout.percent != 75:
        course.turn()
    course.snapshot, _ = with_specs(course.snapshot, [model.spec], course.now)
    for _ in range(30):
        course.turn()
        assert course.ready() >= 3
    assert course.rollout is None
    assert {worker.plan.fingerprint for worker in course.snapshot.workers} == {
        plan.fingerprint for gang in expand(model) for plan in gang
    }
    assert course.ready() == 4


def half_way(policy, slots=4, spec=changed, **course):
    """At 50 % of a change of a model of four workers, which then changes again."""
    model = unified("m", workers=4)
    policy = {"canary": [50, 100], "pause_s": 1000.0, **policy}
    course = Course(capacity(model, slots=slots), spec(model, rollout=policy), **course)
    while course.rollout.percent != 50:
        course.turn()
    return course


def third():
    return with_spec(unified("m", workers=4), topology={"args": {"seed": 3}}).spec


def test_a_third_revision_without_room_has_the_workers_in_between_serve_until_others_can():
    course = half_way({}, ready_after=3)
    assert (len(course.of(1)), len(course.of(2))) == (2, 2)
    course.snapshot, _ = with_specs(course.snapshot, [third()], course.now)
    course.run(look=lambda course: course.ready() >= 3 or pytest.fail("too few serve"))
    assert len(course.of(3, Phase.READY)) == len(course.snapshot.workers) == 4


def test_a_third_revision_that_is_paused_or_cannot_start_leaves_those_in_between():
    course = half_way({}, never=lambda worker: worker.plan.revision == 3)
    course.snapshot, _ = with_specs(course.snapshot, [third()], course.now)
    course.turns(20)
    assert len(course.of(1, Phase.READY)) + len(course.of(2, Phase.READY)) == 3
    course.change_rollout(state=RolloutState.PAUSED)
    course.turns(20)
    assert len(course.of(1, Phase.READY)) + len(course.of(2, Phase.READY)) == 3


def test_workers_in_between_of_another_shape_serve_until_the_third_revision_does():
    pair = with_spec(disaggregated("m"), topology={"prefill": {"max_unavailable": 2}})
    course = half_way({}, spec=lambda model, **more: other(model, pair, **more), ready_after=3)
    in_between = {worker.id for worker in course.of(2)}
    assert sorted(worker.plan.role for worker in course.of(2)) == [Role.DECODE, Role.PREFILL]
    course.snapshot, _ = with_specs(course.snapshot, [third()], course.now)
    course.turns(2)
    assert in_between < {worker.id for worker in course.snapshot.workers}
    course.run(look=lambda course: course.ready() >= 2 or pytest.fail("too few serve"))
    assert {worker.plan.revision for worker in course.snapshot.workers} == {3}


def test_a_variant_in_between_that_neither_side_names_serves_until_others_can():
    course = half_way({}, spec=lambda model, **more: renamed(model, "between", **more))
    assert len(course.of(2, Phase.READY)) == 2
    course.snapshot, _ = with_specs(course.snapshot, [third()], course.now)
    course.run(look=lambda course: course.ready() >= 3 or pytest.fail("too few serve"))
    assert {worker.plan.revision for worker in course.snapshot.workers} == {3}
    assert course.ready() == 4


def test_what_an_autoscaler_had_added_serves_on_though_the_newest_spec_voids_it():
    auto = {"autoscale": {"workers_min": 1, "workers_max": 8}}
    model = with_spec(unified("m", workers=2), topology=auto)
    scale = RoleScale(variant="default", role=Role.UNIFIED, workers=6, reason="", at=0.0)
    fleet = capacity(msgspec.structs.replace(model, scales=(scale,)), slots=12)
    spec = with_spec(model, topology={"args": {"seed": 1}, "workers": 6, "autoscale": None}).spec
    course = Course(fleet, spec, ready_after=3)
    course.change(scales=())  # as the store does
    course.run(look=lambda course: course.ready() >= 6 or pytest.fail("too few serve"))
    assert len(course.of(2, Phase.READY)) == len(course.snapshot.workers) == 6


def test_where_a_node_is_drained_the_old_workers_move_too():
    model = unified("m", workers=2)
    policy = {"canary": [50, 100], "pause_s": 1000.0}
    course = Course(capacity(model, slots=4, nodes=("a", "b")), changed(model, rollout=policy))
    course.turns(3)
    drained = tuple(
        msgspec.structs.replace(n, state=NodeState.DRAINING) if n.name == "a" else n
        for n in course.snapshot.nodes
    )
    course.snapshot = msgspec.structs.replace(course.snapshot, nodes=drained)
    for _ in range(10):
        course.turn()
        assert course.ready() >= 2
    assert {worker.node for worker in course.snapshot.workers} == {"b"}
    assert (len(course.of(1)), len(course.of(2))) == (2, 1)


def test_external_workers_roll_over_without_any_room():
    model = external("m", urls=["http://10.0.0.1:1"])
    spec = external("m", urls=["http://10.0.0.2:1"]).spec
    snapshot, _ = with_specs(a_snapshot(models=[model], workers=workers_of(model)), [spec], 0.0)
    decision = reconcile(snapshot, 0.0)
    (new,) = decision.reach
    assert (new.external.url, decision.drain) == ("http://10.0.0.2:1", {})


@pytest.mark.parametrize(
    ("phase", "ready_at", "proven"),
    [
        (Phase.READY, 1.0, True),
        (Phase.ASLEEP, 1.0, True),
        (Phase.ASLEEP, None, False),
        (Phase.WAKING, None, False),
        (Phase.STARTING, 1.0, False),
    ],
)
def test_a_worker_that_was_placed_asleep_has_proven_nothing(phase, ready_at, proven):
    worker = capacity(unified("m"), slots=2).workers[0]
    assert is_proven(msgspec.structs.replace(worker, phase=phase, ready_at=ready_at)) is proven


def test_two_of_three_are_enough_for_two_thirds_where_one_worker_at_a_time_has_room():
    model = unified("m", workers=2)
    spec = with_spec(
        model,
        topology={"workers": 3, "max_unavailable": 0, "args": {"seed": 1}},
        rollout={"canary": [67, 100]},
    ).spec
    course = Course(capacity(model, slots=4), spec)
    course.run(look=lambda course: course.ready() >= 2 or pytest.fail("too few serve"))
    assert len(course.of(2, Phase.READY)) == 3
