"""One yard for the tests of real vLLM: its engines take minutes to start.

The files run in the order of their names; tests/e2e/test_real_engines.py ends the yard.
"""

from pathlib import Path

import pytest
from real_models import example, written
from yard import run_yard

from registry.settings import load

READY_S = 600.0


@pytest.fixture(scope="session")
def spec(tmp_path_factory) -> Path:
    """The starter's two models; of the aggregated one, workers tell what their KV caches hold, and
    read the calls of tools out of what the model says.
    """
    aggregated, pair = example("starter.yaml")
    aggregated["routing"] = {"policy": "kv_events"}
    args = aggregated["variants"][0]["topology"]["args"]
    args |= {"enable-auto-tool-choice": True, "tool-call-parser": "hermes"}
    return written(tmp_path_factory.mktemp("spec") / "starter.yaml", aggregated, pair)


@pytest.fixture(scope="session")
def yard(tmp_path_factory, spec):
    shared = load({})  # runtimes and weights are the machine's, all other state is the test's own
    home = tmp_path_factory.mktemp("real") / "home"
    for yard in run_yard(
        home, MODELYARD_RUNTIMES_DIR=str(shared.runtimes), MODELYARD_MODELS_DIR=str(shared.models)
    ):
        yard.start(spec)
        yard.wait_ready(READY_S)
        yield yard
