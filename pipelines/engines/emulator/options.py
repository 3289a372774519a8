"""The emulator's flags, checked on start."""

import argparse
from collections.abc import Mapping, Sequence

import msgspec

from pipelines.engines.emulator.adapter import API_KEY_VARIABLE
from registry.spec import Role, Task


class OptionsError(Exception):
    """A flag with a value that cannot be used; the message names it and what is allowed."""


# field → (lowest, highest); what is not listed takes any value of its type
_RANGES: Mapping[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "kv_port": (0, 65_535),
    "ttft_ms": (0, 600_000),
    "tpot_ms": (0, 60_000),
    "prefill_tokens_per_s": (0, 1e9),
    "kv_transfer_ms": (0, 600_000),
    "kv_lease_s": (0, 86_400),
    "kv_timeout_s": (0.01, 600),
    "jitter": (0, 1),
    "failure_rate": (0, 1),
    "die_after_tokens": (-1, 1_000_000),
    "startup_s": (0, 3_600),
    "wake_s": (0, 3_600),
    "max_num_seqs": (1, 1_000_000),
    "max_model_len": (16, 10_000_000),
    "embedding_dimensions": (1, 65_536),
    "kv_blocks": (1, 1_000_000_000),
    "helper_processes": (0, 16),
}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One field per flag: ``ttft_ms`` is ``--ttft-ms``."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free one, named in the start line
    kv_port: int = 0  # where decode workers read KV; 0: any free one
    model: str = "emulated"
    role: Role = Role.UNIFIED
    task: Task = Task.GENERATE
    seed: int = 0  # of the text, the jitter and the failures
    ttft_ms: float = 0.0  # from admission to the first token, without the prompt's own time
    tpot_ms: float = 0.0  # between tokens
    prefill_tokens_per_s: float = 0.0  # shared by all prompts at once; 0: no time at all
    kv_transfer_ms: float = 0.0  # decode's time for one KV read
    kv_lease_s: float = 30.0  # how long prefill keeps KV nobody reads
    kv_timeout_s: float = 5.0  # decode's patience with prefill's KV side
    jitter: float = 0.0  # every delay varies by up to this share
    failure_rate: float = 0.0  # share of generations that answer 500
    die_after_tokens: int = -1  # break every connection after so many tokens; -1: never
    startup_s: float = 0.0  # before it listens, as an engine loads its weights
    enable_sleep_mode: bool = False  # it can be put to sleep, by /sleep and /wake_up
    wake_s: float = 0.0  # what waking up takes
    max_num_seqs: int = 256  # generations at once; the others wait
    max_model_len: int = 2048
    embedding_dimensions: int = 384
    matryoshka: bool = False  # embeddings may be asked for with fewer dimensions
    kv_blocks: int = 4096  # of 16 tokens
    kv_events_endpoint: str = ""  # keep prompts' KV, and tell of it here: tcp://… or ipc://…
    helper_processes: int = 0  # children that outlive a killed parent, as vLLM's do
    ignore_sigterm: bool = False  # end only by SIGKILL

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{flag(name)} is {value:g}, allowed is {low:g} to {high:g}")
        if self.task is not Task.GENERATE and self.role is not Role.UNIFIED:
            raise ValueError(f"--task {self.task} has no --role {self.role}, allowed is unified")
        if not self.model:
            raise ValueError("--model is empty, it must be the name clients use")


def flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def read(argv: Sequence[str]) -> Options:
    """Raises OptionsError for a bad value; argparse itself ends the process for a bad flag."""
    flags = vars(_parser().parse_args(argv))
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return msgspec.convert(given, Options, strict=False)
    except msgspec.ValidationError as error:
        message, separator, field = str(error).partition(" - at `$.")
        prefix = f"{flag(field.removesuffix('`'))}: " if separator else ""
        raise OptionsError(prefix + message) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.engines.emulator_server",
        description="An engine without a model. "
        f"With {API_KEY_VARIABLE} in the environment it asks for that bearer token.",
        allow_abbrev=False,
    )
    for field in msgspec.structs.fields(Options):
        if field.type is bool:
            parser.add_argument(flag(field.name), action="store_true", default=None)
        else:
            default = field.default
            shown = default.value if isinstance(default, Role | Task) else default
            parser.add_argument(flag(field.name), help=f"default: {shown}")
    return parser
