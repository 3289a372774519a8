"""From loads to numbers of workers.

Up, at once: to ceil(load), at most twice as many; then not again until all of them are ready and
have been for `SETTLE_S`. Down, by one: where the highest load of the last `stable_s` is at most
80 % of what stays (load ≤ 0.8 x (workers - 1)), as with the window of Kubernetes'
HorizontalPodAutoscaler; not during a rollout, and not while anything is unknown. Each role alone,
within its bounds. The ratio of prefill to decode is kept: where one role would leave it by growing,
the other one grows with it, and one does not shrink without the other.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import ceil

import msgspec

from pipelines.autoscaler.load import Load, load_of
from pipelines.autoscaler.sight import FRESH_S, Base, Sight, Signals
from pipelines.engines.base import Sample
from pipelines.topology import workers_of
from registry.spec import Autoscale, Disaggregated, External, Ratio, Role, RoleSpec, Variant
from registry.state import Phase, Snapshot, Worker
from registry.traffic import Traffic

LOOK_EVERY_S = 5.0
SETTLE_S = 30.0
DOWN_EVERY_S = 60.0
FIT = 0.8
_SLEEPS = frozenset({Phase.FALLING_ASLEEP, Phase.ASLEEP, Phase.WAKING})
_ROUNDING = 1e-9

_Key = tuple[str, str, Role]


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """That a role is to have so many *workers*, and why."""

    model: str
    variant: str
    role: Role
    workers: int
    reason: str


class _Seat(msgspec.Struct):
    """A role of a variant: it has *now* workers (*ready* of them), and is to have *wish*. How many
    it needs at least by its load, as far as that is known for long enough, is *least*.
    """

    role: Role
    bounds: Autoscale | None
    now: int
    wish: int
    least: int
    reason: str = ""

    @property
    def low(self) -> int:
        return self.bounds.workers_min if self.bounds else self.now

    @property
    def high(self) -> int:
        return self.bounds.workers_max if self.bounds else self.now


class Autoscaler:
    """Remembers the loads of the last `stable_s`, and how quick idle workers are, no more: a new
    one waits that long before it lets the first worker go.
    """

    def __init__(self) -> None:
        self._loads: dict[_Key, deque[Load]] = {}
        self._bases: dict[tuple[str, str], Base] = {}

    def look(
        self,
        snapshot: Snapshot,
        traffic: Sequence[Traffic],
        samples: Mapping[str, Sequence[Sample]],
        now: float,
    ) -> tuple[Scaling, ...]:
        """What is to change at *now*. *traffic* is that of the last `TRAFFIC_S`, *samples* by
        worker.
        """
        signals = Signals(snapshot, traffic, samples, now)
        found: list[Scaling] = []
        standing: set[_Key] = set()
        for model in snapshot.models:
            for variant in () if model.deleted else model.spec.variants:
                name = (model.name, variant.name)
                if not is_autoscaled(variant):
                    continue
                sight = signals.sight(model, variant, self._bases.get(name))
                if any(worker.phase in _SLEEPS for worker in sight.workers):
                    continue
                self._bases[name] = sight.base
                seats = [self._seat(sight, role, spec) for role, spec in variant.topology.roles()]
                standing.update((*name, seat.role) for seat in seats)
                found += _scalings(sight, seats)
        for key in self._loads.keys() - standing:
            del self._loads[key]
        for name in self._bases.keys() - {key[:2] for key in standing}:
            del self._bases[name]
        return tuple(found)

    def _seat(self, sight: Sight, role: Role, spec: RoleSpec) -> _Seat:
        model, variant = sight.model, sight.variant
        count = workers_of(model, variant, role, spec)
        seat = _Seat(role=role, bounds=spec.autoscale, now=count, wish=count, least=count)
        if spec.autoscale is None:
            return seat
        key, stable_s = (model.name, variant.name, role), spec.autoscale.stable_s
        loads = self._loads.setdefault(key, deque())
        load = load_of(sight, role, spec.autoscale)
        if load is None or sight.blind or (loads and load.at - loads[-1].at > FRESH_S):
            loads.clear()  # what was not seen may have been anything
        if load is None:
            return seat
        loads.append(load)
        while len(loads) > 1 and loads[1].at <= sight.now - stable_s:
            loads.popleft()
        settled = _settled(sight.ready(role), count, sight.now - min(SETTLE_S, stable_s))
        if load.asked > load.ready + _ROUNDING:
            wish = min(ceil(load.asked - _ROUNDING), 2 * count)
            if settled and wish > count:
                seat.wish, seat.reason = wish, load.reason
        elif settled and _may_shrink(sight, role, spec.autoscale, loads[0].at):
            most = max(one.workers for one in loads)
            seat.least = min(count, max(1, ceil(most / FIT - _ROUNDING)))
            seat.reason = _spare(most, count - 1, stable_s)
        return seat


def is_autoscaled(variant: Variant) -> bool:
    topology = variant.topology
    return not isinstance(topology, External) and any(
        spec.autoscale is not None for _, spec in topology.roles()
    )


def _settled(ready: Sequence[Worker], count: int, since: float) -> bool:
    """Whether all workers are ready, and have been for long enough to show in what is measured."""
    if len({worker.plan.ordinal for worker in ready}) < count:
        return False
    return all(worker.ready_at is not None and worker.ready_at <= since for worker in ready)


def _may_shrink(sight: Sight, role: Role, bounds: Autoscale, seen_since: float) -> bool:
    model, now, stable_s = sight.model, sight.now, bounds.stable_s
    if model.rollout is not None and model.rollout.is_active:
        return False
    if now - seen_since < stable_s or now - model.updated_at < stable_s:
        return False
    slot = (sight.variant.name, role)
    scaled = [one.at for one in model.scales if (one.variant, one.role) == slot]
    return all(now - at >= min(DOWN_EVERY_S, stable_s) for at in scaled)


def _spare(most: float, stays: int, stable_s: float) -> str:
    return (
        f"the load of the last {stable_s:.0f} s would fill {most:.1f} workers, "
        f"at most {FIT * stays:.1f} of the {stays} that stay"
    )


def _scalings(sight: Sight, seats: Sequence[_Seat]) -> list[Scaling]:
    for seat in seats:
        if seat.wish == seat.now and seat.least < seat.now:
            seat.wish = seat.now - 1
        seat.wish = max(seat.low, min(seat.wish, seat.high))
    topology = sight.variant.topology
    if isinstance(topology, Disaggregated):
        prefill, decode = seats
        _keep_ratio(prefill, decode, topology.ratio)
    return [
        Scaling(
            model=sight.model.name,
            variant=sight.variant.name,
            role=seat.role,
            workers=seat.wish,
            reason=seat.reason,
        )
        for seat in seats
        if seat.wish != seat.now
    ]


def _keep_ratio(prefill: _Seat, decode: _Seat, ratio: Ratio) -> None:
    """Too many of a role for the other one: that one grows, or the role does not."""
    above = f"each decode worker has at most {ratio.max:g} for prefill"
    below = f"each decode worker has at least {ratio.min:g} for prefill"
    _balance(prefill, decode, lambda count: count / ratio.max, above)
    _balance(decode, prefill, lambda count: count * ratio.min, below)
    if not _is_within(prefill.wish, decode.wish, ratio) and (
        _is_within(prefill.now, decode.now, ratio)
    ):
        prefill.wish, decode.wish = prefill.now, decode.now


def _is_within(prefill: int, decode: int, ratio: Ratio) -> bool:
    return ratio.min - _ROUNDING <= prefill / decode <= ratio.max + _ROUNDING


def _balance(many: _Seat, few: _Seat, needs: Callable[[int], float], why: str) -> None:
    """*needs* is how many of *few* there must be for a number of *many*."""

    def enough(count: int, other: int) -> bool:
        return other >= needs(count) - _ROUNDING

    if enough(many.wish, few.wish) or (many.wish <= many.now and few.wish >= few.now):
        return
    if many.wish <= many.now:  # few would shrink alone
        along = many.wish
        while along > many.low and not enough(along, few.wish):
            along -= 1
        if enough(along, few.wish) and along >= many.least:
            many.wish, many.reason = along, many.reason or why
        else:
            few.wish = few.now
        return
    few.wish = min(few.high, max(few.now, ceil(needs(many.wish) - _ROUNDING)))
    if few.wish > few.now:
        few.reason = why
    while many.wish > many.now and not enough(many.wish, few.wish):
        many.wish -= 1
