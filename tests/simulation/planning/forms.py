"""One pipeline for all: a shape with its ratio and its sizes, which every model must have."""

from collections.abc import Iterator, Sequence
from itertools import product

import msgspec

from pipelines.planner.demand import Demand
from pipelines.planner.fleet import Fleet
from pipelines.planner.options import (
    BATCHED_TOKENS,
    DECODE_TOKENS,
    PREFILL_TOKENS,
    Option,
    Part,
    TimesOf,
)
from pipelines.planner.plan import Subject
from pipelines.planner.rates import Aggregated, Disaggregated, rate_within
from pipelines.planner.times import NoDataError, StepTimes, Worker
from registry.spec.topology import Role

_RATIOS = ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1))


class Form(msgspec.Struct, frozen=True):
    """Aggregated workers of *first* devices, or *prefills* of *first* for *decodes* of *second*;
    a model may have it several times.
    """

    first: int
    second: int = 0
    prefills: int = 1
    decodes: int = 0

    @property
    def label(self) -> str:
        if not self.second:
            return f"aggregated TP{self.first}"
        return f"{self.prefills}P:{self.decodes}D TP{self.first}/TP{self.second}"

    @property
    def devices(self) -> int:
        return self.prefills * self.first + self.decodes * self.second


def forms(worker_max: int, devices: int) -> list[Form]:
    sizes = [size for size in (1, 2, 4, 8) if size <= worker_max]
    pairs = (Form(first, second, x, y) for first, second, (x, y) in product(sizes, sizes, _RATIOS))
    return [Form(size) for size in sizes] + [form for form in pairs if form.devices <= devices]


def options_of(form: Form, subjects: Sequence[Subject], fleet: Fleet) -> list[Option]:
    """The form once, twice and so on, for each model on each kind of device."""
    found: list[Option] = []
    for subject in subjects:
        for device, engine in product(fleet.device_models, subject.engines):
            for parts in _units(form, device, engine):
                found += _repeated(subject.demand, subject.times_of, fleet, parts)
    return found


def _units(form: Form, device: str, engine: str) -> Iterator[tuple[Part, ...]]:
    if not form.second:
        for tokens in BATCHED_TOKENS:
            yield (Part(Role.UNIFIED, 1, Worker(engine, device, form.first, tokens)),)
        return
    yield (
        Part(Role.PREFILL, form.prefills, Worker(engine, device, form.first, PREFILL_TOKENS)),
        Part(Role.DECODE, form.decodes, Worker(engine, device, form.second, DECODE_TOKENS)),
    )


def _repeated(
    demand: Demand, times_of: TimesOf, fleet: Fleet, unit: tuple[Part, ...]
) -> Iterator[Option]:
    device = unit[0].worker.device
    try:
        times = [times_of(part.worker) for part in unit]
    except NoDataError:
        return
    needs = sum(part.devices for part in unit)
    for count in range(1, fleet.devices_of(device) // needs + 1):
        parts = tuple(Part(p.role, count * p.workers, p.worker) for p in unit)
        group = _group(parts, times, fleet.fabric_bytes_s(device))
        rate = rate_within(group, demand)
        if not rate:
            return
        yield Option(demand.model, parts, group, rate, group.attained(demand, rate).binding)
        if rate >= demand.rate:
            return


def _group(
    parts: tuple[Part, ...], times: list[StepTimes], fabric: float
) -> Aggregated | Disaggregated:
    first = parts[0]
    if len(parts) == 1:
        return Aggregated(first.workers, times[0], first.worker.batched_tokens)
    return Disaggregated(
        first.workers,
        times[0],
        first.worker.batched_tokens,
        parts[1].workers,
        times[1],
        fabric,
    )
