"""A whole Modelyard whose models take turns on one device, with emulator workers.

The same on real engines is in tests/e2e/test_sharing.py.
"""

from pathlib import Path

import pytest
from turns import memory_of_two, take_turns, write_models
from yard import Yard, run_yard


@pytest.fixture
def yard(tmp_path: Path):
    yield from run_yard(tmp_path / "home", MODELYARD_CPU_SLOTS="1")


@pytest.mark.timeout(300)
def test_three_models_share_a_device_for_two(yard: Yard, tmp_path: Path) -> None:
    yard.start()
    yard.wait_ready(60)
    file = write_models(
        tmp_path / "tail.yaml",
        engine="emulator",
        source="file:///nowhere",
        memory_mib=memory_of_two(yard),
    )
    take_turns(yard, file, asks=5, ready_s=60.0)
