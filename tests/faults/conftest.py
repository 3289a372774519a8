"""What the fault suite stands on: one registry, one gateway, a pool of emulators."""

import pytest
from fault_ground import a_ground
from fault_world import a_world


@pytest.fixture(scope="session")
def ground(tmp_path_factory):
    with a_ground(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture
def world(ground):
    """``async with world(...)``: a model on workers of its own."""
    return lambda **wanted: a_world(ground, **wanted)
