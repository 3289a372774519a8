"""The shapes a model could have on a kind of device, each with the rate it holds within the SLO."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from math import ceil

import msgspec

from pipelines.planner.demand import Demand
from pipelines.planner.fleet import Fleet
from pipelines.planner.rates import Aggregated, Disaggregated, Group, highest, rate_within
from pipelines.planner.times import NoDataError, NoRoomError, StepTimes, Worker
from registry.spec.topology import Role

SIZES = (1, 2, 4, 8)  # devices of a worker
BATCHED_TOKENS = (512, 2048, 8192)  # of a step that decodes as well: long steps make others wait
PREFILL_TOKENS = 8192
DECODE_TOKENS = 2048  # a decode worker computes what its KV cache lacks of a prompt, seldom much
OPTIONS_MAX = 48  # of a model on a kind of device; those that are worse in all respects are gone

TimesOf = Callable[[Worker], StepTimes]


class Part(msgspec.Struct, frozen=True, order=True):
    """*workers* alike in one role."""

    role: Role
    workers: int
    worker: Worker

    @property
    def devices(self) -> int:
        return self.workers * self.worker.devices


class Option(msgspec.Struct, frozen=True, dict=True):
    """One shape, whole: *rate* is what it holds, by *is_rehearsed* played through or else by
    formula; *binding* is which of the two promises keeps it from more.
    """

    model: str
    parts: tuple[Part, ...]
    group: Group
    rate: float
    binding: str
    is_rehearsed: bool = False

    @cached_property
    def devices(self) -> int:
        return sum(part.devices for part in self.parts)

    @property
    def device(self) -> str:
        return self.parts[0].worker.device

    @property
    def engine(self) -> str:
        return self.parts[0].worker.engine

    @property
    def is_disaggregated(self) -> bool:
        return len(self.parts) > 1

    @cached_property
    def label(self) -> str:
        """As in ``2P:1D TP2/TP4`` and ``4x TP2``."""
        if self.is_disaggregated:
            first, second = self.parts
            sizes = f"TP{first.worker.devices}/TP{second.worker.devices}"
            return f"{first.workers}P:{second.workers}D {sizes}"
        (part,) = self.parts
        return f"{part.workers}x TP{part.worker.devices}"


class Missing(msgspec.Struct, frozen=True):
    """Why a model has no data for a worker."""

    model: str
    worker: Worker
    reason: str


class Gaps(msgspec.Struct):
    """What of the models has not been measured: *missing*, worker by worker; *measured* are the
    models that have been anywhere on the fleet.
    """

    missing: list[Missing] = []
    measured: set[str] = set()


def options(
    demand: Demand,
    times_of: TimesOf,
    fleet: Fleet,
    *,
    engines: Sequence[str],
    gaps: Gaps | None = None,
) -> list[Option]:
    """All that are worth a thought for *demand* on *fleet*: none is worse than another of the same
    kind of device in devices, in the size of its workers and in its rate at once. *gaps* is told
    what has not been measured.
    """
    gaps = Gaps() if gaps is None else gaps
    found: list[Option] = []
    for device in fleet.device_models:
        here: list[Option] = []
        for engine in engines:
            maker = _Maker(demand, times_of, fleet, device=device, engine=engine, gaps=gaps)
            here += maker.aggregated()
            here += maker.disaggregated()
        found += _worthwhile(here)
    return found


class _Maker:
    """The shapes on one kind of device with one engine."""

    def __init__(
        self,
        demand: Demand,
        times_of: TimesOf,
        fleet: Fleet,
        *,
        device: str,
        engine: str,
        gaps: Gaps,
    ) -> None:
        self._demand = demand
        self._times_of = times_of
        self._fleet = fleet
        self._device = device
        self._engine = engine
        self._gaps = gaps
        self._devices = fleet.devices_of(device)
        self._fabric_bytes_s = fleet.fabric_bytes_s(device)

    def aggregated(self) -> Iterator[Option]:
        for size in self._sizes():
            for batched_tokens in BATCHED_TOKENS:
                worker = self._worker(size, batched_tokens)
                times = self._times(worker)
                if times is None:
                    continue
                rate = 0.0
                for count in self._counts(size):
                    group = Aggregated(count, times, batched_tokens)
                    rate = rate_within(group, self._demand, rate)
                    if rate == 0:
                        break
                    yield self._option(group, rate, Part(Role.UNIFIED, count, worker))
                    if rate >= self._demand.rate:
                        break

    def disaggregated(self) -> Iterator[Option]:
        """For each count of prefill workers those of decode that match them: one too few, or enough
        for what they hand over.
        """
        for first, second in self._pairs():
            prefill, decode = self._times(first), self._times(second)
            if prefill is None or decode is None:
                continue
            alone = self._pair(1, prefill, 1, decode)
            if not alone.ttft(self._demand, 1e-4) or not alone.tpot(self._demand, 1e-4):
                continue
            taken = self._highest(alone.tpot)  # by one decode worker
            for prefills in self._counts(first.devices):
                is_enough = False
                for decodes in self._matching(self._pair(prefills, prefill, 1, decode), taken):
                    if prefills * first.devices + decodes * second.devices > self._devices:
                        continue
                    group = self._pair(prefills, prefill, decodes, decode)
                    rate = rate_within(group, self._demand)
                    if rate:
                        parts = (
                            Part(Role.PREFILL, prefills, first),
                            Part(Role.DECODE, decodes, second),
                        )
                        yield self._option(group, rate, *parts)
                    is_enough |= rate >= self._demand.rate
                if is_enough:
                    break

    def _pairs(self) -> Iterator[tuple[Worker, Worker]]:
        for size in self._sizes():
            for other in self._sizes():
                if size + other <= self._devices:
                    yield self._worker(size, PREFILL_TOKENS), self._worker(other, DECODE_TOKENS)

    def _matching(self, handing: Disaggregated, taken: float) -> list[int]:
        """Decode workers, each of which takes so many a second, for the prefill workers there."""
        handed = self._highest(handing.ttft)
        if not handed or not taken:
            return []
        enough = ceil(min(handed, self._demand.rate) / taken)
        return sorted({max(1, enough - 1), max(1, enough)})

    def _highest(self, share: Callable[[Demand, float], float]) -> float:
        """The highest rate at which that share of the requests is as promised: a percent is close
        enough to count workers by.
        """
        demand = self._demand
        return highest(lambda rate: share(demand, rate) >= demand.share, 0.01, 0.01, part=0.01)

    def _pair(
        self, prefills: int, prefill: StepTimes, decodes: int, decode: StepTimes
    ) -> Disaggregated:
        return Disaggregated(
            prefills, prefill, PREFILL_TOKENS, decodes, decode, self._fabric_bytes_s
        )

    def _sizes(self) -> list[int]:
        most = self._fleet.worker_max(self._device)
        return [size for size in SIZES if size <= most]

    def _counts(self, size: int) -> range:
        return range(1, self._devices // size + 1)

    def _worker(self, size: int, batched_tokens: int) -> Worker:
        return Worker(self._engine, self._device, size, batched_tokens)

    def _times(self, worker: Worker) -> StepTimes | None:
        model = self._demand.model
        try:
            times = self._times_of(worker)
        except NoDataError as error:
            self._gaps.missing.append(Missing(model, worker, str(error)))
            if isinstance(error, NoRoomError):
                self._gaps.measured.add(model)
            return None
        self._gaps.measured.add(model)
        return times

    def _option(self, group: Group, rate: float, *parts: Part) -> Option:
        binding = group.attained(self._demand, rate * 1.02).binding
        return Option(self._demand.model, parts, group, rate, binding)


def _worthwhile(every: list[Option]) -> list[Option]:
    """Those that no other beats: fewest devices first, of equal ones the highest rate."""
    kept: list[Option] = []
    for one in sorted(every, key=lambda o: (o.devices, -o.rate, _largest(o), o.is_disaggregated)):
        rivals = (o for o in kept if o.is_disaggregated == one.is_disaggregated)
        if not any(o.rate >= one.rate and _largest(o) <= _largest(one) for o in rivals):
            kept.append(one)
    return kept[:OPTIONS_MAX]


def _largest(option: Option) -> int:
    return max(part.worker.devices for part in option.parts)
