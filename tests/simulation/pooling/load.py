"""Who asks for which model when: the arrivals and lengths of a production trace, models by Zipf."""

from random import Random

from simulation.azure import arrivals
from simulation.pooling.catalog import Served
from simulation.pooling.engine import Request


def requests(models: tuple[Served, ...], *, until_s: float, seed: int) -> list[Request]:
    """Fresh ones: of the conversations of Azure's trace, up to *until_s*."""
    chance = Random(seed)
    names = [model.name for model in models]
    shares = [model.share for model in models]
    return [
        Request(arrival, chance.choices(names, weights=shares)[0])
        for arrival in arrivals("conv")
        if arrival.at_s < until_s
    ]
