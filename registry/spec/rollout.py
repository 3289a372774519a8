"""How a model changes from one revision to the next."""

from enum import StrEnum
from itertools import pairwise

from registry.spec.checks import Strict, check_range, refuse

CANARY_STEPS_MAX = 20


class Promote(StrEnum):
    """What leads from one step of a rollout to the next."""

    AUTO = "auto"  # time, and the gate where there is one
    MANUAL = "manual"  # somebody says `rollout resume`


class Gate(Strict, frozen=True, kw_only=True):
    """What the new revision is held to while it takes a part of the traffic: looked at for at least
    *watch_s* and *requests_min* of its requests, its error rate may be *error_rate_max* above the
    old one's, its median TTFT and TPOT so many times the old one's.
    """

    watch_s: float = 30.0
    requests_min: int = 20
    error_rate_max: float = 0.02
    ttft_ratio_max: float = 1.5
    tpot_ratio_max: float = 1.5

    def __post_init__(self) -> None:
        check_range("watch_s", self.watch_s, 1, 86_400)
        check_range("requests_min", self.requests_min, 1, 1_000_000)
        check_range("error_rate_max", self.error_rate_max, 0, 1)
        check_range("ttft_ratio_max", self.ttft_ratio_max, 1, 1000)
        check_range("tpot_ratio_max", self.tpot_ratio_max, 1, 1000)


class RolloutPolicy(Strict, frozen=True, kw_only=True):
    """*canary* are the percents of the traffic that the new revision takes, one step after the
    other, each for *pause_s* at least. Before a step its workers must be ready within *ready_s*.
    Where they are not, or the *gate* fails, it is rolled back, unless *rollback* is off: then it
    stands still.
    """

    canary: tuple[int, ...] = (100,)
    pause_s: float = 0.0
    promote: Promote = Promote.AUTO
    gate: Gate | None = None
    ready_s: float = 1800.0
    rollback: bool = True

    def __post_init__(self) -> None:
        steps = self.canary
        if not 1 <= len(steps) <= CANARY_STEPS_MAX:
            refuse("canary", f"has {len(steps)} steps, allowed are 1 to {CANARY_STEPS_MAX}")
        rising = all(low < high for low, high in pairwise(steps))
        if not rising or steps[0] < 1 or steps[-1] != 100:  # noqa: PLR2004 - percent
            refuse(
                "canary",
                f"is {list(steps)}, allowed are rising percents from 1 that end with 100, "
                "as in [5, 25, 100]",
            )
        check_range("pause_s", self.pause_s, 0, 7 * 86_400)
        check_range("ready_s", self.ready_s, 1, 7 * 86_400)
