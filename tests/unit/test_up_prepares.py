"""What `up` makes ready on this machine before it starts anything."""

import pytest

from gateway.up import run
from gateway.up.prepare import fetch_weights, install_runtimes
from gateway.up.screen import Screen
from registry.settings import Settings
from registry.spec import from_data


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


def test_engines_that_run_elsewhere_need_nothing_here(tmp_path):
    url = "http://10.0.0.1:8000"
    variant = {"engine": "openai", "topology": {"type": "external", "workers": [{"url": url}]}}
    spec = from_data({"name": "m", "variants": [variant]})
    settings = Settings(home=tmp_path)
    install_runtimes(settings, (spec,), Screen())
    fetch_weights(settings, (spec,), Screen())
