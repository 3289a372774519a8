"""One adapter per engine behind one small protocol."""

from collections.abc import Mapping

from pipelines.engines.base import Engine
from pipelines.engines.emulator import EmulatorEngine
from pipelines.engines.openai import OpenAiEngine
from pipelines.engines.sglang import SglangEngine
from pipelines.engines.vllm import VllmEngine
from registry.spec import EngineName
from registry.state import DeviceKind, WorkerPlan

ENGINES: Mapping[EngineName, Engine] = {
    EngineName.VLLM: VllmEngine(),
    EngineName.SGLANG: SglangEngine(),
    EngineName.OPENAI: OpenAiEngine(),
    EngineName.EMULATOR: EmulatorEngine(),
}


def runtime_of(plan: WorkerPlan, kind: DeviceKind) -> str:
    """The runtime a plan gets on a kind of device: its own wish, or the engine's default."""
    return plan.runtime or ENGINES[plan.engine].default_runtime(kind)
