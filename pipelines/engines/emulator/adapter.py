"""The emulator behind the protocol every engine meets. It speaks vLLM's P/D protocol."""

from pipelines.engines import nixl_protocol
from pipelines.engines.base import (
    EVERY_OPERATION,
    Body,
    Command,
    EngineMetrics,
    Launch,
    Pairing,
    Resuming,
    Sleeping,
    Unpaired,
)
from pipelines.engines.flags import flags
from pipelines.engines.resume import TOKENIZED
from registry.spec import Role
from registry.state import DeviceKind, SleepMode

API_KEY_VARIABLE = "EMULATOR_API_KEY"
_SLEEPING = Sleeping(
    mode=SleepMode.WEIGHTS_ON_HOST,
    sleep_path="/sleep",
    wake_path="/wake_up",
    held_bytes=64 * 2**20,
)


class EmulatorEngine(Unpaired):
    needs_weights = False
    health_path = "/health"
    metrics_path = "/metrics"
    has_completions = True
    pairing = Pairing.SEQUENTIAL
    operations = EVERY_OPERATION
    paired_operations = nixl_protocol.PAIRED_OPERATIONS
    counts_transfers = Role.DECODE
    resuming = Resuming(tokenized=TOKENIZED)  # it says words, and counts bytes

    def default_runtime(self, kind: DeviceKind) -> str:  # noqa: ARG002 - part of the protocol
        return "builtin"

    def sleeping(self, kind: DeviceKind) -> tuple[Sleeping, ...]:  # noqa: ARG002 - as above
        return (_SLEEPING,)

    def command(self, launch: Launch) -> Command:
        events = ("--kv-events-endpoint", launch.events_url) if launch.events_url else ()
        argv = (
            *("-m", "pipelines.engines.emulator_server"),
            *("--model", launch.model),
            *("--host", launch.host, "--port", str(launch.port)),
            *("--kv-port", str(launch.kv_port)),
            *("--role", launch.role.value),
            *("--task", launch.task.value),
            *events,
            *(("--enable-sleep-mode",) if launch.sleeps else ()),
            *flags(launch.args),
        )
        return Command(argv=argv, env={API_KEY_VARIABLE: launch.token})

    def metrics(self, text: str) -> EngineMetrics:
        return nixl_protocol.metrics(text)

    def prefill_body(self, body: Body, operation: str) -> Body:
        return nixl_protocol.prefill_body(body, operation)

    def decode_body(self, body: Body, prefill_answer: bytes) -> Body:
        return nixl_protocol.decode_body(body, prefill_answer)
