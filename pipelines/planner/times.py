"""How long an engine's steps take: what the planner knows of a model on a kind of device."""

from typing import Protocol

import msgspec


class Worker(msgspec.Struct, frozen=True, order=True):
    """One way to start a worker: its *engine*, the device it holds *devices* of (tensor parallel
    over all of them), and *batched_tokens*, the most that one of its steps takes.
    """

    engine: str
    device: str
    devices: int
    batched_tokens: int


class StepTimes(Protocol):
    """Of one model on one worker. *kv_tokens* is what its KV cache has room for; a token of KV is
    *kv_token_bytes* on each of the worker's devices, as its weights are *weight_bytes*; in
    all the engine takes *memory_bytes* of each.
    """

    def __hash__(self) -> int: ...

    @property
    def kv_tokens(self) -> int: ...

    @property
    def kv_token_bytes(self) -> int: ...

    @property
    def weight_bytes(self) -> int: ...

    @property
    def memory_bytes(self) -> int: ...

    @property
    def overhead_s(self) -> float:
        """What a request costs before its prompt is computed."""

    def step_s(self, prompt_part: int, prompt: int, sequences: int, context: int) -> float:
        """One step: *prompt_part* tokens of prompts that are *prompt* tokens long, and one token of
        each of *sequences* answers, *context* tokens into their text.
        """


class NoDataError(Exception):
    """The model, the engine or the parallelism has not been measured on this kind of device: the
    message says which.
    """


class NoRoomError(NoDataError):
    """It has been measured, and its weights leave no room for its KV cache."""
