"""What a change of a spec does to workers, and the rollout it begins."""

import msgspec
from fleets import a_model, disaggregated, unified, with_spec

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
