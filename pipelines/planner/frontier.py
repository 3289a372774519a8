"""What a faster answer costs: throughput a device over time per token, for either family. Pure."""

from collections.abc import Sequence

import msgspec

from pipelines.planner.demand import Demand
from pipelines.planner.options import Option
from pipelines.planner.rates import rate_within
from registry.spec.demand import Slo

FACTORS = (0.5, 0.7, 0.85, 1.0, 1.25, 1.6, 2.2, 3.0)  # of the promised time per token
OPTIONS_MAX = 12  # of a family, the best per device at what is promised


class FrontierPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The most answered tokens a second and device when each token must come within *tpot_s*, by
    formula; 0 where no shape does that.
    """

    family: str
    tpot_s: float
    tokens_per_device: float
    shape: str


def frontier(demand: Demand, every: Sequence[Option], device: str) -> tuple[FrontierPoint, ...]:
    """Of the options on one kind of device, both families at each time per token."""
    found = []
    for family in ("aggregated", "disaggregated"):
        own = [
            option
            for option in every
            if option.model == demand.model
            and option.device == device
            and option.is_disaggregated == (family == "disaggregated")
        ]
        own.sort(key=lambda option: (-option.rate / option.devices, option.devices, option.label))
        for factor in FACTORS:
            tpot_s = demand.slo.tpot_s * factor
            asked = msgspec.structs.replace(
                demand, slo=Slo(ttft_s=demand.slo.ttft_s, tpot_s=tpot_s)
            )
            rates = [(rate_within(o.group, asked) / o.devices, o.label) for o in own[:OPTIONS_MAX]]
            best, shape = max(rates, default=(0.0, ""))
            found.append(
                FrontierPoint(
                    family=family,
                    tpot_s=round(tpot_s, 5),
                    tokens_per_device=round(best * demand.answer, 1),
                    shape=shape if best else "",
                )
            )
    return tuple(found)
