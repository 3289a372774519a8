"""What is wrong and what to do about it, as the console says it."""

import msgspec
import pytest
from fleets import a_device, a_node, a_snapshot, a_worker, rolling_out, unified, workers_of

from gateway.admin.live.problems import Facts, problems
from gateway.admin.live.rates import rates_of, summed
from gateway.admin.live.standing import standing
from pipelines.awake.wishes import Wish
from pipelines.topology import expand
from registry.state import Lease, NodeState, Phase, Proposal, RolloutState
from registry.traffic import Traffic

NOW = 1000.0
LEADS = Lease(holder="c", epoch=1, expires_in_s=5.0)
change = msgspec.structs.replace


def found(*, traffic=None, wishes=None, lease=LEADS, proposals=(), **parts):
    """(severity, kind, name) of all problems, and the first one's words."""
    stands = standing(a_snapshot(**parts), proposals)
    facts = Facts(
        snapshot=stands.snapshot,
        states=stands.states,
        statuses=stands.statuses,
        failed=stands.failed,
        rates={name: rates_of(summed([row]), None) for name, row in (traffic or {}).items()},
        wishes=wishes or {},
        lease=lease,
        proposals=stands.proposals,
        now=NOW,
    )
    seen = problems(facts)
    words = f"{seen[0].sentence} — {seen[0].advice}" if seen else ""
    return [(one.severity, one.kind, one.name) for one in seen], words


def one(**parts):
    kinds, words = found(**parts)
    assert len(kinds) == 1, kinds
    return kinds[0], words


def test_where_all_is_well_there_is_nothing_to_say():
    model = unified("m")
    assert found(models=[model], workers=workers_of(model), nodes=[a_node("a")]) == ([], "")


@pytest.mark.parametrize("lease", [None, change(LEADS, expires_in_s=0.0)])
def test_that_nobody_leads_comes_before_all_else(lease):
    kinds, words = found(models=[unified("m")], lease=lease)
    assert [kind for _, kind, _ in kinds] == ["controller", "model"]
    assert "start the controller" in words


def test_a_model_without_a_place_says_why_and_where_to_look():
    model = change(unified("m"), condition="no node has a device with 4 GiB free")
    kind, words = one(models=[model])
    assert kind == ("error", "model", "m")
    assert "nothing answers: no node has a device" in words
    assert "modelyard describe model m" in words


def test_a_model_whose_worker_fails_names_the_log_to_read():
    model = unified("m", workers=2)
    (first,), (second,) = expand(model)
    failed = a_worker(first, Phase.FAILED, id="w-bad", reason="out of memory", ended_at=1.0)
    kind, words = one(models=[model], ended=[failed])
    assert kind == ("error", "model", "m")
    assert "out of memory" in words
    assert "modelyard logs w-bad" in words
    kind, words = one(models=[model], workers=[a_worker(second)], ended=[failed])
    assert kind == ("warning", "model", "m")
    assert "1 of 2 unified ready" in words
    assert "modelyard logs w-bad" in words
    # Its successor serves: the other one is what is missing.
    kind, words = one(models=[model], workers=[a_worker(first)], ended=[failed])
    assert "w-bad" not in words


def test_a_model_that_starts_wants_patience_until_a_worker_has_failed():
    model = unified("m")
    ((plan,),) = expand(model)
    starting = [a_worker(plan, Phase.STARTING)]
    kind, words = one(models=[model], workers=starting)
    assert (kind[0], "wait" in words) == ("warning", True)
    failed = a_worker(plan, Phase.FAILED, id="w-bad", ended_at=1.0)
    kind, words = one(models=[model], workers=starting, ended=[failed])
    assert (kind[0], "modelyard logs w-bad" in words) == ("error", True)


def test_who_sleeps_or_is_deleted_has_no_problem():
    model = change(unified("m"), condition="asleep: the next request wakes it")
    asleep = workers_of(model, Phase.ASLEEP)
    assert found(models=[model], workers=asleep) == ([], "")
    assert found(models=[change(model, deleted=True)]) == ([], "")


@pytest.mark.parametrize(("errors", "severity"), [(0, None), (10, "warning"), (60, "error")])
def test_requests_that_fail_are_told_by_their_share(errors, severity):
    model = unified("m")
    row = Traffic(
        at=0, gateway="g", model="m", variant="default", revision=1, requests=100, errors=errors
    )
    kinds, words = found(models=[model], workers=workers_of(model), traffic={"m": row})
    assert [kind[0] for kind in kinds] == ([severity] if severity else [])
    few = change(row, requests=5, errors=5)
    assert found(models=[model], workers=workers_of(model), traffic={"m": few}) == ([], "")
    if severity:
        assert f"{errors} % of its requests fail" in words


def test_a_queue_that_fills_up_is_told_before_it_refuses():
    model = unified("m")
    calm = Wish(queued=1, oldest_at=NOW - 1)
    late = Wish(queued=1, oldest_at=NOW - model.spec.limits.queued_s)
    full = Wish(queued=model.spec.limits.queued, oldest_at=NOW - 1)
    parts = {"models": [model], "workers": workers_of(model)}
    assert found(**parts, wishes={"m": calm}) == ([], "")
    for wish in (late, full):
        kind, words = one(**parts, wishes={"m": wish})
        assert (kind[0], "modelyard scale m" in words) == ("warning", True)


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (RolloutState.PROGRESSING, None),
        (RolloutState.PAUSED, ("info", "resume")),
        (RolloutState.STALLED, ("error", "abort")),
    ],
)
def test_a_rollout_is_told_of_where_somebody_has_to_decide(state, problem):
    base = unified("m")
    model = rolling_out(base, unified("m"), 50, state=state, reason="its errors")
    kinds, words = found(models=[model], workers=workers_of(base))
    assert kinds == ([(problem[0], "rollout", "m")] if problem else [])
    assert (problem[1] if problem else "") in words


def test_nodes_that_are_silent_drained_or_cordoned_say_what_to_do():
    model = unified("m")
    workers = workers_of(model)  # on node a
    silent = change(a_node("a", state=NodeState.UNKNOWN), last_seen_at=NOW - 300)
    kinds, words = found(models=[model], workers=workers, nodes=[silent])
    assert kinds == [("error", "node", "a")]
    assert "has not reported for 5 min, with 1 worker on it" in words
    assert "modelyard delete node a" in words
    kind, _ = one(nodes=[silent])
    assert kind == ("warning", "node", "a")
    for state in (NodeState.DRAINING, NodeState.CORDONED):
        kind, words = one(nodes=[a_node("a", state=state)])
        assert (kind[0], "modelyard uncordon a" in words) == ("info", True)


def test_devices_and_proposals_come_last():
    proposal = Proposal(
        id="p1",
        model="m",
        base_revision=1,
        spec=unified("m").spec,
        reason="it saturates at 2048",
        created_at=0.0,
        created_by="tune",
        taken=None,
        decided_at=None,
    )
    kinds, _ = found(
        models=[unified("m")],
        devices=[
            a_device("a", 0, quarantine="another program uses it"),
            a_device("a", 1, overuse="its workers use 2 GiB more than they claim"),
        ],
        proposals=(proposal, change(proposal, id="p2", taken=True)),
    )
    assert kinds == [
        ("error", "model", "m"),
        ("warning", "device", "a/cpu0"),
        ("warning", "device", "a/cpu1"),
        ("info", "proposal", "m"),
    ]
