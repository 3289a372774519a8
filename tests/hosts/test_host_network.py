"""The ground of the tests of several hosts: if it does not hold, they say nothing."""

import socket
import subprocess
import sys

import pytest
from host_machine import HEAD
from yard import eventually

ALIVE = """
import ray
ray.init(address="{head}", logging_level="ERROR", log_to_driver=False)
print("\\nALIVE", *[node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]])
"""


def alive(hosts) -> set[str]:
    """The hosts that Ray takes for alive."""
    said = hosts[0].run(sys.executable, "-c", ALIVE.format(head=HEAD))
    (line,) = [line for line in said.splitlines() if line.startswith("ALIVE ")]
    return set(line.split()[1:])


def test_ray_knows_three_hosts(hosts):
    assert alive(hosts) == {"10.77.0.1", "10.77.0.2", "10.77.0.3"}


def test_a_host_is_reached_by_the_others_and_not_from_here(hosts):
    with hosts[1].inside():
        listener = socket.create_server((hosts[1].address, 0))
    address = listener.getsockname()
    with listener:
        with hosts[2].inside(), socket.create_connection(address, 2):
            pass
        with hosts[1].inside(), socket.create_connection(address, 2):
            pass
        with pytest.raises(OSError):
            socket.create_connection(address, 1)


def test_a_cut_host_is_reached_by_nobody_until_it_is_healed(hosts):
    with hosts[1].inside(), socket.create_server((hosts[1].address, 0)) as listener:
        address = listener.getsockname()
        hosts[1].cut()
        try:
            with hosts[0].inside(), pytest.raises(OSError):
                socket.create_connection(address, 0.5)
        finally:
            hosts[1].heal()
        with hosts[0].inside(), socket.create_connection(address, 5):
            pass


def test_bytes_over_a_cable_are_counted(hosts):
    with hosts[1].inside(), socket.create_server((hosts[1].address, 0)) as listener:
        before = hosts[2].bytes_sent()
        with hosts[2].inside(), socket.create_connection(listener.getsockname(), 2) as sender:
            taker, _ = listener.accept()
            with taker:
                for _ in range(100):
                    sender.sendall(b"x" * 10_000)
                    taker.recv(10_000, socket.MSG_WAITALL)
        assert 1_000_000 < hosts[2].bytes_sent() - before < 2_000_000


def test_a_killed_host_has_no_process_and_comes_back(hosts):
    ours = subprocess.Popen(hosts[2].command("sleep", "1000"))
    hosts[2].kill()
    ours.wait(5)
    assert hosts[2].processes() == []
    eventually("Ray has seen it", lambda: len(alive(hosts)) == 2, 30)

    hosts[2].start()

    eventually("it is back", lambda: len(alive(hosts)) == 3, 10)
