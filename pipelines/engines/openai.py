"""Anything that speaks OpenAI's API and runs elsewhere: nothing more is known of it."""

from typing import NoReturn

from pipelines.engines.base import EVERY_OPERATION, EngineMetrics, Launch, Sleeping, Unpaired
from registry.state import DeviceKind


class OpenAiEngine(Unpaired):
    needs_weights = False
    health_path = ""
    metrics_path = ""
    # What it has not, it refuses by itself.
    operations = EVERY_OPERATION
    has_completions = False  # hosted models often have chats only
    resuming = None

    def default_runtime(self, kind: DeviceKind) -> str:  # noqa: ARG002 - part of the protocol
        return ""

    def sleeping(self, kind: DeviceKind) -> tuple[Sleeping, ...]:  # noqa: ARG002 - as above
        return ()

    def command(self, launch: Launch) -> NoReturn:
        raise NotImplementedError(f"{launch.worker_id}: such an engine is external, never started")

    def metrics(self, text: str) -> EngineMetrics:  # noqa: ARG002 - part of the protocol
        return EngineMetrics()
