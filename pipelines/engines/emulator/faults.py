"""Failures on demand: what the next generations do instead of answering well."""

import random
from enum import StrEnum

import msgspec


class FaultKind(StrEnum):
    STATUS = "status"  # answer an error status instead of generating
    ERROR = "error"  # vLLM's own internal error: an SSE error event, or 500 where none streams
    HANG = "hang"  # no further byte, the connection stays open
    KV_NEVER = "kv_never"  # decode reads the KV, begins to answer, and never has a token
    KV_RECOMPUTE = "kv_recompute"  # decode reads no KV and computes the prompt again, all is well
    SLOW = "slow"  # the first token takes *factor* times as long
    DIE = "die"  # reset the connection
    TRUNCATE = "truncate"  # end the body as if it were whole, without finish or [DONE]
    GARBAGE = "garbage"  # bytes that are neither JSON nor events
    EXIT = "exit"  # the process ends at once
    UNHEALTHY = "unhealthy"  # /health answers 503; generations are not touched


# They hit while the first token is awaited.
_BEFORE_TOKENS = frozenset({FaultKind.KV_NEVER, FaultKind.KV_RECOMPUTE, FaultKind.SLOW})
_OF_KV = frozenset({FaultKind.KV_NEVER, FaultKind.KV_RECOMPUTE})  # only where KV is to be read


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hits *count* generations (-1: all), each after *after_tokens* tokens (0: before any byte)."""

    kind: FaultKind
    count: int = 1
    after_tokens: int = 0
    status: int = 500
    factor: float = 10.0

    def __post_init__(self) -> None:
        if self.count < -1 or self.count == 0:
            raise ValueError(f"count is {self.count}, allowed is 1 or more, or -1 for all")
        if self.after_tokens < 0:
            raise ValueError(f"after_tokens is {self.after_tokens}, allowed is 0 or more")
        if not 400 <= self.status <= 599:  # noqa: PLR2004
            raise ValueError(f"status is {self.status}, allowed is 400 to 599")
        if self.after_tokens and self.kind in _BEFORE_TOKENS:
            raise ValueError(f"after_tokens is {self.after_tokens}, {self.kind} allows only 0")
        if not 1 <= self.factor <= 1e6:  # noqa: PLR2004
            raise ValueError(f"factor is {self.factor:g}, allowed is 1 to 1e6")

    @property
    def strikes_at_once(self) -> bool:
        """Before anything is done for the generation."""
        return self.after_tokens == 0 and self.kind not in _BEFORE_TOKENS


class Faults:
    """The failures still to come, first in first out, then those the flags ask for."""

    def __init__(self, *, failure_rate: float, die_after_tokens: int, rng: random.Random) -> None:
        self._failure_rate = failure_rate
        self._die_after_tokens = die_after_tokens
        self._rng = rng
        self._pending: list[Fault] = []

    @property
    def pending(self) -> list[Fault]:
        return list(self._pending)

    @property
    def healthy(self) -> bool:
        return all(fault.kind is not FaultKind.UNHEALTHY for fault in self._pending)

    def add(self, fault: Fault) -> None:
        self._pending.append(fault)

    def clear(self) -> None:
        self._pending.clear()

    def take(self, *, reads_kv: bool) -> Fault | None:
        """The fault of the generation that begins now."""
        for index, fault in enumerate(self._pending):
            spared = fault.kind in _OF_KV and not reads_kv
            if fault.kind is not FaultKind.UNHEALTHY and not spared:
                self._use(index, fault)
                return fault
        if self._failure_rate and self._rng.random() < self._failure_rate:
            return Fault(kind=FaultKind.STATUS)
        if self._die_after_tokens >= 0:
            return Fault(kind=FaultKind.DIE, after_tokens=self._die_after_tokens)
        return None

    def _use(self, index: int, fault: Fault) -> None:
        if fault.count == 1:
            del self._pending[index]
        elif fault.count > 1:
            self._pending[index] = msgspec.structs.replace(fault, count=fault.count - 1)
