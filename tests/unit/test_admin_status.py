"""How well a model is served, as the admin API tells it."""

import msgspec
import pytest
from fleets import rolling_out

from gateway.admin.status import ServingState, model_state, restarts, variant_statuses
from pipelines.topology import expand
from registry.spec import from_data
from registry.state import Model, Phase, Snapshot, Worker

AGGREGATED = {"type": "aggregated"}
PAIR = {"type": "disaggregated", "prefill": {}, "decode": {"workers": 2}}


def model(*topologies, **changes) -> Model:
    variants = [
        {"name": f"v{index}", "engine": "emulator", "topology": topology}
        for index, topology in enumerate(topologies)
    ]
    facts = {
        "name": "m",
        "generation": 1,
        "revision": 1,
        "spec": from_data({"name": "m", "source": "hf://o/m", "variants": variants}),
        "created_at": 0.0,
        "updated_at": 0.0,
        "deleted": False,
        "condition": "",
    }
    return Model(**facts | changes)


def workers(of: Model, *phases: Phase) -> tuple[Worker, ...]:
    """One for each plan of *of*, in its order, as far as there are phases."""
    plans = [plan for gang in expand(of) for plan in gang]
    return tuple(
        Worker(
            id=f"w{index}",
            plan=plan,
            node="n",
            runtime="r",
            phase=phase,
            reason="",
            url="",
            token="t",
            created_at=0.0,
            ready_at=None,
            ended_at=None,
        )
        for index, (plan, phase) in enumerate(zip(plans, phases, strict=False))
    )


def snapshot(of: Model, live: tuple[Worker, ...], ended: tuple[Worker, ...] = ()) -> Snapshot:
    return Snapshot(
        version=1,
        models=(of,),
        nodes=(),
        devices=(),
        workers=live,
        ended=ended,
        claims=(),
        keys=(),
    )


R, S, D = Phase.READY, Phase.STARTING, Phase.DRAINING
A, F = Phase.ASLEEP, Phase.FALLING_ASLEEP


@pytest.mark.parametrize(
    ("topologies", "phases", "state"),
    [
        ([AGGREGATED], [], "unavailable"),
        ([AGGREGATED], [S], "starting"),
        ([AGGREGATED], [R], "ready"),
        ([AGGREGATED | {"workers": 2}], [R, S], "degraded"),
        ([AGGREGATED], [A], "asleep"),
        ([AGGREGATED | {"workers": 2}], [A, F], "asleep"),
        ([AGGREGATED | {"workers": 2}], [A, R], "ready"),
        ([AGGREGATED | {"workers": 2}], [A, S], "starting"),  # or one is on its way
        ([AGGREGATED], [Phase.WAKING], "starting"),
        ([PAIR], [A, A, A], "asleep"),
        ([AGGREGATED, AGGREGATED], [A, R], "ready"),
        ([AGGREGATED, AGGREGATED], [A, A], "asleep"),
        ([PAIR], [R, R, R], "ready"),
        ([PAIR], [R, R, S], "degraded"),
        ([PAIR], [S, R, R], "degraded"),  # decode serves alone
        ([PAIR], [R, S, S], "starting"),  # prefill cannot
        ([AGGREGATED, AGGREGATED], [R], "degraded"),
        ([AGGREGATED, AGGREGATED], [R, R], "ready"),
        ([AGGREGATED], [D], "starting"),
    ],
)
def test_state_follows_the_workers(topologies, phases, state):
    of = model(*topologies)
    statuses = variant_statuses(of, workers(of, *phases))
    assert model_state(of, statuses) == state


def test_a_variant_without_traffic_does_not_make_the_model_degraded():
    of = model(AGGREGATED, AGGREGATED)
    one, two = of.spec.variants
    spec = msgspec.structs.replace(of.spec, variants=(one, msgspec.structs.replace(two, weight=0)))
    of = msgspec.structs.replace(of, spec=spec)
    statuses = variant_statuses(of, workers(of, R))
    assert model_state(of, statuses) is ServingState.READY


def test_a_model_whose_ready_workers_serve_badly_is_degraded():
    of = model(PAIR, degraded=True)
    for phases, state in (((R, R, R), ServingState.DEGRADED), ((), ServingState.UNAVAILABLE)):
        statuses = variant_statuses(of, workers(of, *phases))
        assert model_state(of, statuses) is state


def test_workers_of_an_older_spec_serve_but_do_not_count():
    old, new = model(AGGREGATED), model(AGGREGATED | {"args": {"seed": 1}})
    (status,) = variant_statuses(new, workers(old, R))
    assert status.state is ServingState.DEGRADED
    assert (status.roles[0].ready, status.roles[0].live) == (0, 0)
    assert len(status.workers) == 1


def test_a_variant_that_was_removed_is_shown_while_its_workers_run():
    two, one = model(AGGREGATED, AGGREGATED), model(AGGREGATED)
    statuses = variant_statuses(one, workers(two, R, R))
    assert [(item.name, item.state) for item in statuses] == [("v0", "ready"), ("v1", "deleting")]
    assert model_state(one, statuses) is ServingState.READY


def test_a_deleted_model_is_deleting():
    of = model(AGGREGATED)
    live = workers(of, R)
    gone = msgspec.structs.replace(of, deleted=True)
    assert model_state(gone, variant_statuses(gone, live)) == "deleting"


def test_only_ends_by_itself_are_restarts():
    of = model(AGGREGATED | {"workers": 3})
    ended = workers(of, Phase.FAILED, Phase.STOPPED, Phase.LOST)
    counts = restarts(snapshot(of, (), ended + ended[:1]))
    assert {slot[3]: count for slot, count in counts.items()} == {0: 2, 2: 1}


def test_while_a_model_changes_its_old_workers_count_as_well():
    base = model(AGGREGATED)
    changing = rolling_out(base, model(PAIR), 0)
    old = workers(base, Phase.READY)
    assert model_state(changing, variant_statuses(changing, old)) is (ServingState.ROLLING)
    assert model_state(changing, variant_statuses(changing, ())) is ServingState.UNAVAILABLE
    bad = msgspec.structs.replace(changing, degraded=True)
    assert model_state(bad, variant_statuses(bad, old)) is ServingState.DEGRADED
