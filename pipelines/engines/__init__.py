"""One adapter per engine behind one small protocol."""

from collections.abc import Mapping

from pipelines.engines.base import Engine, Sleeping
from pipelines.engines.emulator import EmulatorEngine
from pipelines.engines.openai import OpenAiEngine
from pipelines.engines.sglang import SglangEngine
from pipelines.engines.vllm import VllmEngine
from registry.spec import EngineName
from registry.state import DeviceKind, SleepMode, WorkerPlan

ENGINES: Mapping[EngineName, Engine] = {
    EngineName.VLLM: VllmEngine(),
    EngineName.SGLANG: SglangEngine(),
    EngineName.OPENAI: OpenAiEngine(),
    EngineName.EMULATOR: EmulatorEngine(),
}


def runtime_of(plan: WorkerPlan, kind: DeviceKind) -> str:
    """The runtime a plan gets on a kind of device: its own wish, or the engine's default."""
    return plan.runtime or ENGINES[plan.engine].default_runtime(kind)


def sleeping_of(
    plan: WorkerPlan, kind: DeviceKind, mode: SleepMode | None = None
) -> Sleeping | None:
    """How a worker of the plan sleeps as a process: in *mode*, or as it wakes quickest. None: it
    cannot, and is stopped.
    """
    if not plan.sleeps:
        return None
    ways = ENGINES[plan.engine].sleeping(kind)
    return next((way for way in ways if mode in (None, way.mode)), None)
