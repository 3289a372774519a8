"""The shapes a variant may have: how many workers of which role, and what each one gets."""

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Literal

import msgspec

from registry.engine_args import Arg, refused_name
from registry.spec.checks import Strict, check_range, check_text, parse_size_bytes, refuse
from registry.spec.demand import Autoscale, Ratio
from registry.spec.engines import Transfer
from registry.spec.placement import NO_WISHES, Locality, Placement

WORKERS_PER_ROLE_MAX = 1024
DEVICES_PER_WORKER_MAX = 64
DEVICE_MEMORY_BYTES_MIN = 2**26
DEVICE_MEMORY_BYTES_MAX = 2**50


class Role(StrEnum):
    UNIFIED = "unified"
    PREFILL = "prefill"
    DECODE = "decode"


class RoleSpec(Strict, frozen=True, kw_only=True):
    """What each worker of a role gets.

    *workers* is how many of them, of which *min_available* are never taken away for the sake of
    others; *devices* how many devices each one holds; *memory* how much of each device (empty: the
    whole device); *placement* what this role wishes beside or instead of its variant's wishes;
    *args* are further engine flags without dashes.

    While the role changes, at most *max_surge* workers more than *workers* live (None: as many as
    find room), and at most *max_unavailable* fewer are ready. With *autoscale*, *workers* is what
    it begins with.
    """

    workers: int = 1
    min_available: int = 0
    max_surge: int | None = None
    max_unavailable: int = 1
    autoscale: Autoscale | None = None
    devices: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    memory: str = ""
    placement: Placement = NO_WISHES
    args: dict[str, Arg] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_range("workers", self.workers, 1, WORKERS_PER_ROLE_MAX)
        check_range("min_available", self.min_available, 0, self.workers)
        check_range("max_unavailable", self.max_unavailable, 0, WORKERS_PER_ROLE_MAX)
        if self.max_surge is not None:
            check_range("max_surge", self.max_surge, 0, WORKERS_PER_ROLE_MAX)
        if self.max_surge == 0 == self.max_unavailable:
            refuse("max_unavailable", "is 0 as max_surge is: one of them must let a worker change")
        if self.autoscale is not None:
            low, high = self.autoscale.workers_min, self.autoscale.workers_max
            check_range("workers", self.workers, low, high)
            check_range("min_available", self.min_available, 0, low)
        check_range("devices", self.devices, 1, DEVICES_PER_WORKER_MAX)
        check_range("tensor_parallel", self.tensor_parallel, 1, self.devices)
        check_range("pipeline_parallel", self.pipeline_parallel, 1, self.devices)
        if self.devices % self.tensor_parallel:
            refuse(
                "tensor_parallel",
                f"is {self.tensor_parallel}, allowed is a divisor of devices ({self.devices})",
            )
        if self.devices % (self.tensor_parallel * self.pipeline_parallel):
            refuse(
                "pipeline_parallel",
                f"is {self.pipeline_parallel}: tensor_parallel x pipeline_parallel must divide "
                f"devices ({self.devices})",
            )
        if self.memory:
            try:
                size = parse_size_bytes(self.memory)
            except ValueError as error:
                refuse("memory", str(error))
            if not DEVICE_MEMORY_BYTES_MIN <= size <= DEVICE_MEMORY_BYTES_MAX:
                refuse("memory", f"is {self.memory!r}, allowed is 64MiB to 1024TiB")
        for name, value in self.args.items():
            _check_arg(name, value)

    @property
    def memory_bytes(self) -> int:
        """Bytes of each device; 0 means the whole device."""
        return parse_size_bytes(self.memory) if self.memory else 0


def _check_arg(name: str, value: Arg) -> None:
    refusal = refused_name(name)
    if refusal:
        refuse(f"args.{name[:80]}", refusal)
    if isinstance(value, str):
        check_text(f"args.{name}", value, 4096)
    elif not math.isfinite(value) or abs(value) >= 2**63:  # JSON would not give it back
        refuse(f"args.{name}", "allowed is a finite number below 2^63")


class Bypass(Strict, frozen=True, kw_only=True):
    """Prompts of fewer tokens than *max_prompt_tokens* skip prefill; 0 switches bypass off."""

    max_prompt_tokens: int = 0

    def __post_init__(self) -> None:
        check_range("max_prompt_tokens", self.max_prompt_tokens, 0, 10_000_000)


class Aggregated(RoleSpec, frozen=True, tag="aggregated", tag_field="type", kw_only=True):
    """*workers* that each do both phases."""

    is_disaggregated = False
    bypass_tokens = 0

    def roles(self) -> Iterator[tuple[Role, RoleSpec]]:
        yield Role.UNIFIED, self


class Disaggregated(Strict, frozen=True, tag="disaggregated", tag_field="type", kw_only=True):
    """Prefill and decode apart, x workers to y, each role with its own devices and flags.

    *transfer* is how KV gets from one to the other; auto is the engine's own way. *locality* is how
    near each other its workers must be, *ratio* how many prefill workers there may be for each
    decode worker when either role is scaled by its load.
    """

    prefill: RoleSpec
    decode: RoleSpec
    transfer: Literal["auto", Transfer] = "auto"
    locality: Locality = Locality.PREFER
    bypass: Bypass = Bypass()
    ratio: Ratio = Ratio()

    is_disaggregated = True

    @property
    def bypass_tokens(self) -> int:
        return self.bypass.max_prompt_tokens

    def roles(self) -> Iterator[tuple[Role, RoleSpec]]:
        yield Role.PREFILL, self.prefill
        yield Role.DECODE, self.decode
