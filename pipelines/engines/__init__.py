"""One adapter per engine behind one small protocol."""

from collections.abc import Mapping

from pipelines.engines.base import Engine
from pipelines.engines.emulator import EmulatorEngine
from pipelines.engines.openai import OpenAiEngine
from pipelines.engines.sglang import SglangEngine
from pipelines.engines.vllm import VllmEngine
from registry.spec import EngineName

ENGINES: Mapping[EngineName, Engine] = {
    EngineName.VLLM: VllmEngine(),
    EngineName.SGLANG: SglangEngine(),
    EngineName.OPENAI: OpenAiEngine(),
    EngineName.EMULATOR: EmulatorEngine(),
}
