"""What `describe` tells of a model that rolls out: each revision, who serves it, its traffic."""

import msgspec
from fleets import a_snapshot, rolling_out, unified, with_spec, workers_of

from gateway.admin.rollout_views import revision_parts
from pipelines.topology import expand
from registry.state import Phase


def revised(model, number, **args):
    changed = with_spec(model, topology={"args": args})
    return msgspec.structs.replace(changed, revision=number)


def serving(model, prefix, *, count=2, phase=Phase.READY):
    return [
        msgspec.structs.replace(
            worker, id=f"{prefix}{index}", phase=phase, url=f"http://10.0.0.1:{9000 + index}"
        )
        for index, worker in enumerate(workers_of(model)[:count])
    ]


def told(model, workers):
    return {
        part.revision: (part.percent, part.workers, [(r.ready, r.wanted) for r in part.roles])
        for part in revision_parts(model, a_snapshot(models=[model], workers=workers))
    }


def test_each_revision_has_its_workers_and_its_part_as_gateways_split_it():
    base = unified("m", workers=2)
    newest = revised(base, 2, seed=1)
    model = rolling_out(base, newest, 25)
    workers = serving(base, "old") + serving(newest, "new", count=1)
    assert told(model, workers) == {
        1: (75.0, ("old0", "old1"), [(2, 2)]),
        2: (25.0, ("new0",), [(1, 2)]),
    }
    starting = serving(base, "old") + serving(newest, "new", phase=Phase.STARTING)
    assert [percent for percent, *_ in told(model, starting).values()] == [100.0, 0.0]


def test_stand_ins_are_told_of_under_their_own_revision():
    base = unified("m", workers=4)
    between, newest = revised(base, 2, seed=2), revised(base, 3, seed=3)
    model = msgspec.structs.replace(
        rolling_out(base, newest, 0, to_revision=3), revision=newest.revision
    )
    assert told(model, serving(base, "old") + serving(between, "left")) == {
        1: (50.0, ("old0", "old1"), [(2, 4)]),
        2: (50.0, ("left0", "left1"), [(2, 2)]),
        3: (0.0, (), [(0, 4)]),
    }


def test_what_both_revisions_ask_for_is_told_in_both():
    base = unified("m", workers=2)
    newest = msgspec.structs.replace(with_spec(base, limits={"queued": 7}), revision=2)
    model = rolling_out(base, newest, 50)
    parts = told(model, serving(base, "same"))
    assert parts[1][1] == parts[2][1] == ("same0", "same1")


def test_without_a_rollout_there_is_nothing_to_tell_apart():
    model = unified("m")
    assert expand(model)
    assert told(model, serving(model, "w")) == {}
