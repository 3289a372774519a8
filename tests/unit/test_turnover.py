"""What a change of a spec does to workers, and the rollout it begins."""

import msgspec
import pytest
from fleets import a_model, a_snapshot, disaggregated, rolling_out, unified, with_spec

from pipelines.plan import with_specs
from pipelines.turnover import Turnover, as_applied, coming_rollout, turnover
from registry.spec import Role, RolloutPolicy
from registry.state import RoleScale, Rollout, RolloutState


def one(**counts) -> Turnover:
    return Turnover(variant="default", role=Role.UNIFIED, **counts)


def test_counts_alone_replace_nobody():
    small, large = unified("m", workers=2), unified("m", workers=5)
    assert turnover(small, large.spec) == (one(kept=2, started=3),)
    assert turnover(large, small.spec) == (one(kept=2, stopped=3),)


def test_what_a_worker_was_started_with_replaces_it():
    before, after = unified("m", workers=2), unified("m", workers=3, memory="8GiB")
    assert turnover(before, after.spec) == (one(replaced=2, started=1),)
    assert not coming_rollout(before, with_spec(before, limits={"queued": 5}).spec).changes_workers
    assert coming_rollout(before, after.spec).changes_workers


def test_another_topology_stops_one_kind_and_starts_the_other():
    pair = disaggregated("m", prefill=1, decode=2)
    assert turnover(unified("m", workers=2), pair.spec) == (
        one(stopped=2),
        Turnover(variant="default", role=Role.PREFILL, started=1),
        Turnover(variant="default", role=Role.DECODE, started=2),
    )
    assert turnover(None, pair.spec)[1].started == 2


@pytest.mark.parametrize(
    "change",
    [{"workers": 3}, {"autoscale": None}],
    ids=["begins with another number", "is autoscaled no more"],
)
def test_what_a_change_makes_void_of_its_load_s_say_is_void_in_the_plan_too(change):
    topology = {"type": "aggregated", "autoscale": {"workers_max": 8}}
    scale = RoleScale(variant="default", role=Role.UNIFIED, workers=5, reason="", at=0.0)
    model = msgspec.structs.replace(a_model("m", topology), scales=(scale,))
    after = with_spec(model, topology=change).spec
    wanted = change.get("workers", 1)
    assert turnover(model, after) == (one(kept=wanted, stopped=5 - wanted),)
    assert as_applied(model, after).scales == ()
    assert as_applied(msgspec.structs.replace(model, deleted=True), model.spec).scales == ()


def test_once_the_new_revision_has_all_traffic_the_next_rollout_comes_from_it():
    base, newest = unified("m"), unified("m", memory="8GiB")
    model = rolling_out(base, newest, 100)
    after = unified("m", memory="12GiB").spec
    coming = coming_rollout(model, after)
    assert (coming.from_revision, coming.to_revision, coming.supersedes) == (2, 3, 2)
    snapshot, _ = with_specs(a_snapshot(models=[model]), [after], 0.0)
    assert snapshot.models[0].rollout.base == newest.spec
    assert coming_rollout(rolling_out(base, newest, 99), after).from_revision == 1


def test_an_autoscaled_role_keeps_the_size_that_its_load_gave_it():
    topology = {"type": "aggregated", "autoscale": {"workers_max": 8}}
    scale = RoleScale(variant="default", role=Role.UNIFIED, workers=5, reason="", at=0.0)
    model = msgspec.structs.replace(a_model("m", topology), scales=(scale,))
    assert turnover(model, with_spec(model, priority=5).spec) == (one(kept=5),)


def test_a_rollout_begins_where_traffic_is():
    model = unified("m", revision=3)
    changed = with_spec(model, topology={"memory": "8GiB"}, rollout={"canary": [5, 100]}).spec
    coming = coming_rollout(model, changed)
    assert (coming.from_revision, coming.to_revision, coming.supersedes) == (3, 4, 0)
    assert coming.policy.canary == (5, 100)
    assert coming_rollout(model, changed, RolloutPolicy()).policy.canary == (100,)
    under_way = Rollout(
        model="m",
        from_revision=1,
        to_revision=3,
        base=model.spec,
        policy=RolloutPolicy(),
        state=RolloutState.PAUSED,
        step=0,
        percent=0,
        step_at=0.0,
        reason="",
        created_at=0.0,
        ended_at=None,
    )
    rolling = msgspec.structs.replace(model, rollout=under_way)
    coming = coming_rollout(rolling, changed)
    assert (coming.from_revision, coming.to_revision, coming.supersedes) == (1, 4, 3)


def test_nothing_is_rolled_where_nothing_is_there_or_changes():
    model = unified("m")
    assert coming_rollout(model, model.spec) is None
    assert coming_rollout(None, model.spec) is None
    assert as_applied(None, model.spec).revision == 1
