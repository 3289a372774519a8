"""The engines that a spec may name, and what it may ask of each.

How it is done is the adapter's (`pipelines.engines`); a contract test holds the two together.
"""

from enum import StrEnum
from typing import Literal

import msgspec

# How KV gets from a prefill to a decode worker.
Transfer = Literal["nixl", "mooncake"]


class EngineName(StrEnum):
    VLLM = "vllm"
    SGLANG = "sglang"
    OPENAI = "openai"  # anything that speaks OpenAI's API
    EMULATOR = "emulator"


class EngineTraits(msgspec.Struct, frozen=True, kw_only=True):
    """*started*: we can start it; else its workers are external only. *transfers*: what it can use
    between prefill and decode, its default first; with none it has no P/D.

    *tasks*: whether we start it for models that give no tokens, too.

    *concurrent*: both halves of a pair are asked at once. They meet at a port of the prefill
    worker, and neither can answer alone: so there is no bypass.
    """

    started: bool
    transfers: tuple[Transfer, ...] = ()
    concurrent: bool = False
    tasks: bool = True


TRAITS = {
    EngineName.VLLM: EngineTraits(started=True, transfers=("nixl",)),
    EngineName.SGLANG: EngineTraits(
        started=True, transfers=("mooncake",), concurrent=True, tasks=False
    ),
    EngineName.OPENAI: EngineTraits(started=False),
    EngineName.EMULATOR: EngineTraits(started=True, transfers=("nixl",)),
}
