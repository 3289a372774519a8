"""Hosts that lose power, the network or Ray, and are drained, while clients go on asking.

Each test leaves the fleet whole (conftest.py sees to it). Host 1 has the gateway and Ray's head, so
what a test takes away is host 2; host 3 alone has the GPUs on which the pair decodes.
"""

import re
import time
from collections import defaultdict

import pytest
from fault_history import End
from host_fleet import NAMES, NODE_LOST_S, SMALL, WHOLE_S, Fleet
from host_machine import is_rays
from host_traffic import Traffic, check_all
from yard import eventually

pytestmark = pytest.mark.timeout(240)

REPLACED_S = 45.0  # after a node is given up
_LISTENER = re.compile(r"^LISTEN\s+\d+\s+\d+\s+(\S+):(\d+)\s.*?pid=(\d+)", re.MULTILINE)


def ready_elsewhere(fleet: Fleet, node: str) -> bool:
    """Every slot has a ready worker that is not on *node*."""
    missing = fleet.rows(
        "SELECT id FROM workers WHERE ended_at IS NULL AND (phase != 'ready' OR node = ?)", node
    )
    return not missing and all(map(fleet.is_ready, NAMES))


def refused_at_most_of(traffic: Traffic, lost: dict[str, str]) -> None:
    """No request failed but one that a lost worker had, or one of a model that had no other."""
    alone = {model for model in lost.values() if model not in ("wide", "pair")}
    for sent in traffic.sent:
        if sent.model not in alone and sent.end() is not End.OK:
            assert sent.workers.values() & lost.keys(), (sent.model, sent.answer)


def test_placement_is_across_kinds_and_hosts(fleet):
    placed = defaultdict(set)
    shared = defaultdict(set)
    for worker, model, role, node, device, kind in fleet.rows(
        "SELECT w.id, w.model, w.role, w.node, d.id, d.model FROM workers w"
        " JOIN claims c ON c.worker_id = w.id JOIN devices d ON d.id = c.device_id"
    ):
        placed[model, role].add(node)
        shared[device].add(model)
        assert (kind == SMALL) >= (role == "decode" or model.startswith("small")), worker
        assert (kind != SMALL) >= (role == "prefill" or model == "mover"), worker
    assert placed["wide", "unified"] == {"host1", "host2", "host3"}, "one in each zone"
    assert placed["pair", "prefill"] == {"host1", "host2"}
    assert placed["pair", "decode"] == {"host3"}
    assert any(len(models) > 1 for models in shared.values()), shared
    with fleet.client() as client:
        body = {"model": "pair", "prompt": "across the network " * 50, "max_tokens": 4}
        before = fleet.kv_transfers("pair")
        answer = client.post("/v1/completions", json=body)
    assert answer.headers["x-modelyard-mode"] == "disaggregated"
    assert fleet.kv_transfers("pair") == before + 1


def test_workers_listen_on_their_nodes_address_alone(fleet):
    seen = set()
    for host in fleet.hosts:
        ours = {process.pid for process in host.processes() if not is_rays(process)}
        listeners = _LISTENER.findall(host.run("ss", "-ltnpH"))
        for address, port, pid in listeners:
            if int(pid) in ours:
                assert address in (host.address, "127.0.0.1"), (host, address, port)
                seen.add((address, int(port)))
    urls = fleet.rows("SELECT url, node FROM workers WHERE phase = 'ready'")
    for url, node in urls:
        address, _, port = url.removeprefix("http://").rpartition(":")
        assert address == fleet.by_name(node).address
        assert (address, int(port)) in seen
    assert len(urls) == 10


def test_the_log_of_a_worker_on_another_host_is_read_here(fleet):
    for host in fleet.hosts:
        worker = next(iter(fleet.on(host)))
        assert "ready" in fleet.cli("logs", worker).stdout, host


def test_a_host_that_loses_power_is_replaced_and_comes_back_empty(fleet):
    victim = fleet.hosts[1]
    lost = fleet.on(victim)
    traffic = Traffic(fleet)
    with traffic.flows():
        eventually("answers", lambda: traffic.answered() > 30)
        victim.kill()
        eventually(
            "replaced", lambda: ready_elsewhere(fleet, victim.name), NODE_LOST_S + REPLACED_S
        )
        replaced_at = time.time()
        eventually(
            "all models answer",
            lambda: all(traffic.answered(model, since=replaced_at) for model in ("wide", "pair")),
        )
        survivors = fleet.live()
        victim.start()
        fleet.wait_whole()
        assert survivors == fleet.live(), "nothing starts twice"
    ends = check_all(fleet, traffic)
    refused_at_most_of(traffic, lost)
    assert ends["wide"][End.OK] > 30
    phases = dict(fleet.rows("SELECT id, phase FROM workers"))
    assert {phases[worker] for worker in lost} == {"lost"}


def test_of_a_host_that_is_cut_off_nothing_serves_twice(fleet):
    """Its workers run on, and are stopped when it is back, before it gets new ones."""
    victim = fleet.hosts[1]
    lost = fleet.on(victim) or _move_one_to(fleet, victim)
    pids = victim.engines()
    assert lost.keys() == pids.keys()
    traffic = Traffic(fleet)
    with traffic.flows():
        eventually("answers", lambda: traffic.answered() > 20)
        victim.cut()
        eventually(
            "replaced", lambda: ready_elsewhere(fleet, victim.name), NODE_LOST_S + REPLACED_S
        )
        assert victim.engines() == pids, "they cannot be reached, and are not ended"
        assert fleet.node(victim.name)["state"] == "unknown"
        victim.heal()

        def surplus_gone() -> bool:
            # What runs is looked at first: a claim seen after it was made after it.
            surplus = victim.engines().keys() & lost.keys()
            assert not (fleet.on(victim) and surplus), "a new worker beside the surplus"
            victim.revive()
            return not surplus

        eventually("the surplus is stopped", surplus_gone, WHOLE_S)
        fleet.wait_whole()
    check_all(fleet, traffic)
    refused_at_most_of(traffic, lost)


def _move_one_to(fleet: Fleet, host) -> dict[str, str]:
    """Something to lose: *wide* gets a fourth replica, which the empty zone is best for."""
    fleet.cli("scale", "wide", "--workers", "4")
    eventually(f"a worker on {host}", lambda: fleet.on(host) and fleet.is_whole(), WHOLE_S)
    return fleet.on(host)


def test_workers_outlive_ray_and_the_controller(fleet):
    before = [host.engines() for host in fleet.hosts]
    live = fleet.live()
    traffic = Traffic(fleet)
    with traffic.flows():
        eventually("answers", lambda: traffic.answered() > 20)
        killed = fleet.part("controller")
        killed.kill()
        eventually("a new controller", lambda: _has_other_than(fleet, killed.pid), 20)
        for host in fleet.hosts:
            host.kill_ray()
        for host in fleet.hosts:
            host.start()
        restarted_at = time.time()
        eventually("every node is seen anew", lambda: _seen_since(fleet, restarted_at), WHOLE_S)
        fleet.wait_whole()
    assert [host.engines() for host in fleet.hosts] == before, "the same processes"
    assert fleet.live() == live, "adopted, none started anew"
    ends = check_all(fleet, traffic)
    assert all(counts.keys() == {End.OK} for counts in ends.values()), ends


def _has_other_than(fleet: Fleet, pid: int) -> bool:
    try:
        return fleet.part("controller").pid != pid
    except StopIteration:
        return False


def _seen_since(fleet: Fleet, moment: float) -> bool:
    for host in fleet.hosts:
        host.revive()
    (oldest,) = fleet.rows("SELECT MIN(last_seen_at) FROM nodes WHERE name != ''")
    return oldest[0] > moment


def test_a_host_is_drained_under_traffic_and_no_request_fails(fleet):
    victim = fleet.hosts[0]
    moving = fleet.on(victim)
    traffic = Traffic(fleet)
    with traffic.flows():
        eventually("answers", lambda: traffic.answered() > 20)
        fleet.cli("drain", victim.name)
        eventually("moved", lambda: not fleet.on(victim), WHOLE_S)
        assert all(map(fleet.is_ready, NAMES))
        fleet.cli("uncordon", victim.name)
        fleet.wait_whole()
    ends = check_all(fleet, traffic)
    assert all(counts.keys() == {End.OK} for counts in ends.values()), ends
    # I9: whoever left had a successor that was ready before.
    for worker in moving:
        (successor_at, ended_at) = fleet.rows(
            "SELECT MIN(s.ready_at), w.ended_at FROM workers w JOIN workers s"
            " ON (s.model, s.variant, s.role, s.ordinal) = (w.model, w.variant, w.role, w.ordinal)"
            " AND s.created_at > w.created_at WHERE w.id = ?",
            worker,
        )[0]
        assert successor_at < ended_at, worker
