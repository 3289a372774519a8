"""Three hosts on this machine, and a fleet on them."""

import pytest
import yaml
from host_fleet import GPUS, MODELS, Fleet, a_fleet
from host_machine import three_hosts


@pytest.fixture(scope="session")
def hosts(tmp_path_factory):
    """Two hosts with four large GPUs each, one with four smaller ones; all of them emulated."""
    root = tmp_path_factory.mktemp("hosts")
    environs = []
    for number, gpus in enumerate(GPUS, start=1):
        file = root / f"gpus{number}.json"
        file.write_text(gpus)
        environs.append(
            {"MODELYARD_FAKE_GPUS": str(file), "MODELYARD_NODE_LABELS": f"zone=z{number}"}
        )
    with three_hosts(root, *environs) as made:
        yield made


@pytest.fixture(scope="session")
def running(hosts, tmp_path_factory):
    spec = tmp_path_factory.mktemp("fleet") / "fleet.yaml"
    spec.write_text(yaml.safe_dump({"models": list(MODELS)}))
    with a_fleet(hosts, spec) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Fleet):
    """Whole before the test and after it. What the test asks, it asks on host 1."""
    with running.head.inside():
        running.wait_whole()
        yield running
        running.wait_whole()
