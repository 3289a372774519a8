"""A planned pipeline under a trace's own arrivals: with the workers that are planned, and with the
autoscaler's own code in the loop.

A plan is made for Poisson arrivals. Traces bunch: what they ask for at the same mean rate is more
than was planned for, for seconds and for minutes.
"""

from collections.abc import Sequence
from random import Random

import msgspec
from fleets import a_model, with_spec
from simulation.autoscaling.brain import Brain
from simulation.planning.router import chooser

from pipelines.planner.elastic import rehearse_scaled
from pipelines.planner.engine import Arrival
from pipelines.planner.options import Option
from pipelines.planner.plan import Choice
from pipelines.planner.rehearsal import rehearse
from pipelines.planner.specs import spec_of
from registry.state import Model

GROWS_MAX = 2  # times the planned workers of a role
REQUESTS = 3000
_HOUR_S = 3600.0


class Bursts(msgspec.Struct, frozen=True, kw_only=True):
    """*share* of the requests within the SLO and hours of devices held, with the planned workers;
    the same *scaled*: between these and GROWS_MAX times as many. *minutes* from the first arrival
    to the last.
    """

    share: float
    device_hours: float
    share_scaled: float
    device_hours_scaled: float
    minutes: float


def bursts(choice: Choice, arrivals: Sequence[Arrival], seed: int) -> Bursts:
    """*arrivals* come to each option of the choice at the rate that is planned for it."""
    load = min(1.0, choice.demand.rate / choice.rate)
    played = [
        _played(choice, option, at_rate(arrivals, option.rate * load), seed)
        for option in choice.options
    ]
    parts = [option.rate / choice.rate for option in choice.options]
    return Bursts(
        share=sum(p * one.share for p, one in zip(parts, played, strict=True)),
        device_hours=sum(one.device_hours for one in played),
        share_scaled=sum(p * one.share_scaled for p, one in zip(parts, played, strict=True)),
        device_hours_scaled=sum(one.device_hours_scaled for one in played),
        minutes=max(one.minutes for one in played),
    )


def at_rate(arrivals: Sequence[Arrival], rate: float) -> list[Arrival]:
    """Stretched to another mean *rate*, from 0."""
    begin_s = arrivals[0].at_s
    own = len(arrivals) / (arrivals[-1].at_s - begin_s)
    return [Arrival((one.at_s - begin_s) * own / rate, one.length) for one in arrivals]


def stretch_of(arrivals: Sequence[Arrival], seed: int) -> Sequence[Arrival]:
    """REQUESTS of them, one after the other."""
    draw = Random(seed)
    first = draw.randrange(max(1, len(arrivals) - REQUESTS))
    return arrivals[first : first + REQUESTS]


def autoscaled(choice: Choice, option: Option) -> Model:
    """The option's own spec, each role autoscaled as a spec is that says its bounds only."""
    named = msgspec.structs.replace(choice.demand, model="m")
    alone = msgspec.structs.replace(choice, demand=named, options=(option,))
    (variant,) = spec_of(alone, "file:///nowhere").variants
    topology = msgspec.to_builtins(variant.topology)
    for part in option.parts:
        role = topology[part.role] if option.is_disaggregated else topology
        bounds = {"workers_min": part.workers, "workers_max": GROWS_MAX * part.workers}
        role["autoscale"] = bounds
    slo = msgspec.to_builtins(choice.demand.slo)
    return with_spec(a_model("m", topology, engine=option.engine), slo=slo)


def _played(choice: Choice, option: Option, arrivals: Sequence[Arrival], seed: int) -> Bursts:
    fixed = rehearse(option.group, choice.demand, arrivals, chooser(seed))
    brain = Brain(autoscaled(choice, option))
    scaled = rehearse_scaled(option.group, choice.demand, arrivals, brain, choose=chooser(seed))
    devices = {part.role: part.worker.devices for part in option.parts}
    held_s = sum(devices[role] * each_s for role, each_s in scaled.held_s.items())
    return Bursts(
        share=fixed.share,
        device_hours=option.devices * arrivals[-1].at_s / _HOUR_S,
        share_scaled=scaled.outcome.share,
        device_hours_scaled=held_s / _HOUR_S,
        minutes=arrivals[-1].at_s / 60,
    )
