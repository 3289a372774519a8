"""What clients send to have something measured."""

from typing import Annotated

import msgspec

from gateway.admin.bodies import documented_as
from pipelines.tuning import steps
from pipelines.tuning.prefill import (
    POINTS_MIN,
    SECONDS_DEFAULT,
    SECONDS_MAX,
    SECONDS_MIN,
    SIZES_MAX,
    TOKENS_DEFAULT,
    TOKENS_MAX,
    TOKENS_MIN,
    TOKENS_STEP,
    Wish,
)
from registry.spec.checks import refuse

BatchTokens = Annotated[
    int, documented_as(minimum=TOKENS_MIN, maximum=TOKENS_MAX, multipleOf=TOKENS_STEP)
]
TuneSeconds = Annotated[float, documented_as(minimum=SECONDS_MIN, maximum=SECONDS_MAX)]


MeasureSeconds = Annotated[
    float, documented_as(minimum=steps.SECONDS_MIN, maximum=steps.SECONDS_MAX)
]


class TunePrefillBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to measure: *variant* (optional where the model has only one), *tokens*, the sizes of
    batches, for about *seconds*. *force*: also where the only worker that serves is busy.
    """

    variant: str = ""
    tokens: tuple[BatchTokens, ...] = TOKENS_DEFAULT
    seconds: TuneSeconds = SECONDS_DEFAULT
    force: bool = False

    def __post_init__(self) -> None:
        if not POINTS_MIN <= len(self.tokens) <= SIZES_MAX:
            refuse("tokens", f"are {len(self.tokens)}, allowed are {POINTS_MIN} to {SIZES_MAX}")
        for index, size in enumerate(self.tokens):
            if not TOKENS_MIN <= size <= TOKENS_MAX or size % TOKENS_STEP:
                refuse(
                    f"tokens[{index}]",
                    f"is {size}, allowed is a multiple of {TOKENS_STEP}, "
                    f"{TOKENS_MIN} to {TOKENS_MAX}",
                )
        if not SECONDS_MIN <= self.seconds <= SECONDS_MAX:
            refuse("seconds", f"is {self.seconds}, allowed is {SECONDS_MIN} to {SECONDS_MAX}")

    def wish(self) -> Wish:
        return Wish(tokens=tuple(sorted(set(self.tokens))), seconds=self.seconds, force=self.force)


class MeasureBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to measure: *variant* (optional where the model has only one), for about *seconds*.
    *force*: also where the only worker that serves is busy.
    """

    variant: str = ""
    seconds: MeasureSeconds = steps.SECONDS_DEFAULT
    force: bool = False

    def __post_init__(self) -> None:
        if not steps.SECONDS_MIN <= self.seconds <= steps.SECONDS_MAX:
            allowed = f"{steps.SECONDS_MIN} to {steps.SECONDS_MAX}"
            refuse("seconds", f"is {self.seconds}, allowed is {allowed}")

    def wish(self) -> steps.Wish:
        return steps.Wish(seconds=self.seconds, force=self.force)
