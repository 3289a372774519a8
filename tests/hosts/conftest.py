"""Three hosts on this machine (ARCHITECTURE.md says what a fleet of several is)."""

from contextlib import ExitStack

import pytest
from host_machine import Host
from host_network import Network


@pytest.fixture(scope="session")
def hosts(tmp_path_factory):
    """Host 1, 2 and 3, switched on. All that runs on them ends with the session."""
    root = tmp_path_factory.mktemp("hosts")
    with ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        made = []
        for number in (1, 2, 3):
            made.append(Host(network, number, root))
            stack.callback(made[-1].end)
        for host in made:
            host.start()
        yield made
