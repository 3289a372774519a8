"""What `up` makes ready on this machine before it starts anything."""

import pytest

from gateway.up import run
from registry.settings import Settings


async def nothing(*_):
    """In place of all that is started."""


@pytest.mark.parametrize(("cluster", "prepared"), [("local", ["runtimes", "weights"]), ("ray", [])])
def test_only_for_workers_of_this_machine(cluster, prepared, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(run, "install_runtimes", lambda *_: done.append("runtimes"))
    monkeypatch.setattr(run, "fetch_weights", lambda *_: done.append("weights"))
    monkeypatch.setattr(run, "_run", nothing)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    run.up(Settings(home=tmp_path, cluster=cluster, port=0, admin_port=0), (), ready_timeout_s=1.0)
    assert done == prepared
