"""How few devices serve 99 % of the requests as promised, each way of sharing them."""

from collections.abc import Callable, Sequence

import msgspec
from simulation.pooling.catalog import Served
from simulation.pooling.engine import Request
from simulation.pooling.fleets import (
    LIGHTLY,
    STOPPED,
    TPOT_S,
    TTFT_S,
    Fixed,
    Fleet,
    NoPlaceError,
    Pooled,
    first_fit,
    replay,
)
from simulation.pooling.load import requests

ATTAINED_MIN = 0.99


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Requests up to *until_s*, of which those from *from_s* on count: by then a pool's models
    have found out who is asked for. A pool's engines sleep, or *stop* and start anew.
    """

    exponent: float
    models: int = 40
    until_s: float = 1500.0
    from_s: float = 600.0
    awake_min_s: float = 5.0
    stop: bool = False
    ttft_s: float = TTFT_S
    seed: int = 1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """*attained*: the share of requests with both times kept, of those that count; *attained_all*
    of all. Switches and moves (to another device) are of the whole time, an hour.
    """

    way: str
    devices: int
    requests: int
    attained: float
    attained_all: float
    ttft_p99_s: float
    switches_per_hour: float
    moves_per_hour: float

    @property
    def keeps(self) -> bool:
        return self.attained >= ATTAINED_MIN


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """*tried* are all that were looked at, *fewest* the one that is told; None: none kept it."""

    way: str
    fewest: Outcome | None
    tried: tuple[Outcome, ...]


def dedicated(models: Sequence[Served], case: Case) -> Found:
    return _fixed("dedicated", [[model] for model in models], models, case)


def packed(models: Sequence[Served], case: Case) -> Found:
    return _fixed("first fit", first_fit(models), models, case)


def _fixed(
    way: str, places: Sequence[Sequence[Served]], models: Sequence[Served], case: Case
) -> Found:
    outcome = _outcome(way, len(places), Fixed(places), _requests(models, case), case)
    return Found(way=way, fewest=outcome if outcome.keeps else None, tried=(outcome,))


def pooled(models: Sequence[Served], case: Case, *, most: int) -> Found:
    """By halving between one device and *most*; what is told was itself tried."""
    return _fewest("pool", lambda devices: pooled_on(models, case, devices), most)


def pooled_on(models: Sequence[Served], case: Case, devices: int) -> Outcome | None:
    """None where a model finds no place at all."""
    try:
        fleet = Pooled(
            models,
            devices,
            sleeps=STOPPED if case.stop else LIGHTLY,
            awake_min_s=case.awake_min_s,
            ttft_s=case.ttft_s,
        )
    except NoPlaceError:
        return None
    return _outcome("pool", devices, fleet, _requests(models, case), case)


def _fewest(way: str, attempt: Callable[[int], Outcome | None], most: int) -> Found:
    tried: list[Outcome] = []
    low, high, best = 1, most, None
    while low <= high:
        middle = (low + high) // 2
        outcome = attempt(middle)
        if outcome is not None:
            tried.append(outcome)
        if outcome is not None and outcome.keeps:
            best, high = outcome, middle - 1
        else:
            low = middle + 1
    return Found(way=way, fewest=best, tried=tuple(tried))


def _requests(models: Sequence[Served], case: Case) -> list[Request]:
    return requests(tuple(models), until_s=case.until_s, seed=case.seed)


def _outcome(way: str, devices: int, fleet: Fleet, line: list[Request], case: Case) -> Outcome:
    replay(line, fleet)
    counted = [request for request in line if request.at >= case.from_s]
    waits = sorted(request.ttft_s for request in counted)
    hours = case.until_s / 3600
    return Outcome(
        way=way,
        devices=devices,
        requests=len(counted),
        attained=_attained(counted, case.ttft_s),
        attained_all=_attained(line, case.ttft_s),
        ttft_p99_s=waits[int(0.99 * len(waits))],
        switches_per_hour=fleet.switches / hours,
        moves_per_hour=fleet.moves / hours,
    )


def _attained(some: Sequence[Request], ttft_s: float) -> float:
    kept = sum(request.ttft_s <= ttft_s and request.tpot_s <= TPOT_S for request in some)
    return kept / len(some)
