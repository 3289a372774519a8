"""Who waits to wake, in which order, and who makes room.

The order is that of promises: a model that waits is due its first token at the time its oldest
request came plus `slo.ttft_s`. Whoever came first is due first, whatever comes later, so that
everyone's turn comes; and as the order does not change, nobody takes the place that is freed for
another one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from pipelines.awake.elsewhere import Elsewhere
from pipelines.awake.room import Room
from pipelines.awake.units import Part, Unit, part_of
from pipelines.awake.wishes import NOTHING, Wish
from pipelines.scheduler import Promise
from registry.state import Model, Phase, Pool, Snapshot

# The first token's time of a model that promises none: what orders it among those that do.
TTFT_USUAL_S = 10.0
# Once this part of the promised time is over in the queue, busy models of the pool sleep, too.
BUSY_AFTER_SHARE = 0.25
# Who waits longer than this and cannot wake where it lies is placed anew.
LEAVE_AFTER_S = 10.0


class _Waiting(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A model that has nobody up, or a new revision that sleeps. *options* are the units of which
    one is to wake.
    """

    model: Model
    options: tuple[Unit, ...]
    since: float
    why: str

    @property
    def ttft_s(self) -> float:
        return self.model.spec.slo.ttft_s or TTFT_USUAL_S

    @property
    def due_at(self) -> float:
        return self.since + self.ttft_s


def pools_of(snapshot: Snapshot) -> dict[str, Pool]:
    """By name, those that models name; without settings of its own a pool has the usual ones."""
    names = {model.spec.pool for model in snapshot.models if model.spec.pool}
    given = {pool.name: pool for pool in snapshot.pools}
    return {name: given.get(name, Pool(name=name)) for name in sorted(names)}


class Line:
    """What one call of `arrange` has come to so far."""

    def __init__(
        self,
        snapshot: Snapshot,
        by_model: Mapping[str, Sequence[Unit]],
        asked: Mapping[str, Wish],
        now: float,
    ) -> None:
        self._by_model = by_model
        self._asked = asked
        self._now = now
        self._room = Room(snapshot)
        self._chosen: set[str] = set()  # units that fall asleep by this call
        everyone = [unit for mine in by_model.values() for unit in mine]
        self._ready = Counter(part_of(worker.plan) for unit in everyone for worker in unit.ready)
        self._least = minima(snapshot)
        self._elsewhere = Elsewhere(snapshot, everyone, asked, self._room, now)
        self._in_pool: dict[str, list[Unit]] = defaultdict(list)
        for unit in everyone:
            if unit.pool:
                self._in_pool[unit.pool].append(unit)
        self.pools = pools_of(snapshot)
        self.wake: dict[str, str] = {}
        self.sleep: dict[str, str] = {}
        self.leave: dict[str, str] = {}
        self.promised: list[Promise] = []

    def run(self) -> None:
        waiting = [one for mine in self._by_model.values() for one in self._waiting(mine)]
        for one in sorted(waiting, key=lambda one: (one.due_at, one.model.name)):
            self._serve(one)
        for mine in self._by_model.values():
            self._wake_more(mine)

    def _waiting(self, mine: Sequence[Unit]) -> Iterator[_Waiting]:
        """At most one for the requests that wait, and one for a revision that is rolled out."""
        model, wish = mine[0].model, self._asked.get(mine[0].model.name, NOTHING)
        down = [unit for unit in mine if unit.is_down]
        options = tuple(unit for unit in down if unit.answers)
        if wish.queued and options and not any(unit.is_up and unit.answers for unit in mine):
            yield _Waiting(
                model=model,
                options=options,
                since=wish.oldest_at,
                why=_requests(wish.queued),
            )
        rollout = model.rollout
        if rollout is None or not rollout.is_active:
            return
        for unit in down:
            if unit.workers[0].plan.revision == rollout.to_revision:
                yield _Waiting(
                    model=model,
                    options=(unit,),
                    since=rollout.created_at,
                    why=f"revision {rollout.to_revision} is rolled out",
                )

    def _serve(self, one: _Waiting) -> None:
        """It wakes, or it is promised the place that is freed, or that can be freed, for it."""
        if any(worker.id in self.wake for unit in one.options for worker in unit.workers):
            return
        needs = [(unit, self._room.need(unit)) for unit in one.options]
        for unit, need in needs:
            if _can_wake(unit) and self._room.fits(need):
                self._keep(one, need)
                self._wake_up(unit, one.why)
                return
        for unit, need in needs:
            if self._can_ever(unit, need):
                if not self._free_for(one, unit, need):
                    self._keep(one, need)
                    self._room.promise(need)
                return
        if not self._try_in_vain(one, needs):
            self._leave(one)

    def _keep(self, one: _Waiting, need: Mapping[str, int]) -> None:
        kept = self._room.keep(need)
        self.promised.append(Promise(priority=one.model.spec.priority, bytes_by_device=kept))

    def _try_in_vain(self, one: _Waiting, needs: Iterable[tuple[Unit, Counter[str]]]) -> bool:
        """Whether it is its owner's quota that is in the way: no other place would help. It is
        woken, so that the registry says so, and nobody waits for that.
        """
        for unit, need in needs:
            on_devices = self._room.on_devices(need)
            if self._can_ever(unit, on_devices):
                if _can_wake(unit) and self._room.fits(on_devices):
                    self.wake |= {worker.id: one.why for worker in unit.asleep}
                return True
        return False

    def _leave(self, one: _Waiting) -> None:
        """Its slot is to be placed anew, but not with every turn."""
        first = one.options[0]
        if self._now - max(one.since, first.created_at) > LEAVE_AFTER_S:
            why = self._room.why_closed(first) or "others have taken its place"
            self.leave |= {worker.id: f"could not wake: {why}" for worker in first.asleep}

    def _wake_more(self, mine: Sequence[Unit]) -> None:
        """More of a model that is up already, where it costs nobody anything."""
        wish = self._asked.get(mine[0].model.name, NOTHING)
        for unit in mine:
            if wish.queued and _can_wake(unit) and self._room.fits(self._room.need(unit)):
                self._wake_up(unit, _requests(wish.queued))

    def _wake_up(self, unit: Unit, why: str) -> None:
        if any(worker.id in self.wake for worker in unit.workers):
            return
        self._room.promise(self._room.need(unit))
        self.wake |= {worker.id: why for worker in unit.asleep}

    # Who makes room.

    def _free_for(self, one: _Waiting, unit: Unit, need: Mapping[str, int]) -> bool:
        """Sends to sleep who is needed for it, and nobody if that is not enough yet. Whether it
        leaves instead: before busy ones go for it, it goes where it is calmer.
        """
        lacking = self._room.lacking(need)
        if not lacking:
            return False
        taken = self._enough_of(self._victims(one, lacking), lacking)
        if taken and self._is_less_asked_for(one, taken) and self._elsewhere.takes(unit):
            reason = "goes where it is calmer: those it shares its device with are busy"
            self.leave |= {worker.id: reason for worker in unit.asleep}
            return True
        for victim in taken:
            self._send_to_sleep(victim, f"makes room for {one.model.name} (pool {unit.pool})")
        return False

    def _enough_of(self, victims: Sequence[Unit], lacking: Mapping[str, int]) -> list[Unit]:
        """The first of them that are enough, without who is not needed; else none."""
        taken: list[Unit] = []
        freed: Counter[str] = Counter()
        for unit in victims:
            if _covers(freed, lacking):
                break
            taken.append(unit)
            freed.update(self._room.held(unit.ready))
        if not _covers(freed, lacking):
            return []
        for unit in taken[:-1]:  # the last one is needed; of the others perhaps not all
            less = freed - self._room.held(unit.ready)
            if _covers(less, lacking):
                freed = less
                taken.remove(unit)
        return taken

    def _is_less_asked_for(self, one: _Waiting, others: Sequence[Unit]) -> bool:
        """Than these, which are busy."""
        theirs = [self._asked.get(unit.model.name, NOTHING) for unit in others]
        mine = self._asked.get(one.model.name, NOTHING)
        return mine.queued <= sum(wish.queued + wish.in_flight for wish in theirs)

    def _is_due(self, one: _Waiting) -> bool:
        """So that busy ones sleep for it."""
        return self._now - one.since >= BUSY_AFTER_SHARE * one.ttft_s

    def _send_to_sleep(self, unit: Unit, reason: str) -> None:
        self._chosen.add(unit.name)
        self._ready.subtract(part_of(worker.plan) for worker in unit.ready)
        self._room.free_up(self._room.held(unit.ready))
        self.sleep |= {worker.id: reason for worker in unit.ready}

    def _victims(self, one: _Waiting, lacking: Mapping[str, int]) -> list[Unit]:
        """Idle ones first, then those of lower priority and with fewer requests, then those that
        were asked longest ago. Busy ones only once the waiting one's time runs out.
        """
        is_due = self._is_due(one)
        found = []
        for unit in self._in_pool.get(one.model.spec.pool, ()):
            wish = self._asked.get(unit.model.name, NOTHING)
            rank = (
                not wish.is_idle,
                unit.model.spec.priority,
                wish.in_flight + wish.queued,
                max(wish.asked_at, unit.ready_at),
                unit.name,
            )
            if (
                unit.model.name != one.model.name
                and (is_due or wish.is_idle)
                and self._may_sleep(unit)
                and any(self._room.held(unit.ready)[device] for device in lacking)
            ):
                found.append((rank, unit))
        return [unit for _, unit in sorted(found, key=lambda pair: pair[0])]

    def _may_sleep(self, unit: Unit) -> bool:
        """All that is up of it is ready, and has been for as long as its pool says; nobody has
        chosen it before, and its roles keep what is never taken from them.
        """
        up, ready = unit.up, unit.ready
        if not ready or len(up) > len(ready) or unit.name in self._chosen or unit.is_rolled_out:
            return False
        if self._now - unit.ready_at < self.pools[unit.pool].awake_min_s:
            return False
        losses = Counter(part_of(worker.plan) for worker in ready)
        return all(self._ready[part] - lost >= self._least[part] for part, lost in losses.items())

    def _can_ever(self, unit: Unit, need: Mapping[str, int]) -> bool:
        """Whether there would be room once all of its pool slept that may."""
        could: Counter[str] = Counter()
        for other in self._in_pool.get(unit.pool, ()):
            if other is not unit:
                could.update(
                    self._room.held(w for w in other.up if not self._least[part_of(w.plan)])
                )
        return self._room.could_ever_hold(need, could)


def minima(snapshot: Snapshot) -> Counter[Part]:
    """How many of each role are never taken away for the sake of others."""
    return Counter(
        {
            (model.name, variant.name, role): spec.min_available
            for model in snapshot.models
            for variant in model.spec.variants
            for role, spec in variant.topology.roles()
        }
    )


def _covers(freed: Mapping[str, int], lacking: Mapping[str, int]) -> bool:
    return all(freed.get(device, 0) >= size for device, size in lacking.items())


def _can_wake(unit: Unit) -> bool:
    """None of it still holds what it had awake."""
    return bool(unit.asleep) and not any(w.phase is Phase.FALLING_ASLEEP for w in unit.workers)


def _requests(count: int) -> str:
    return "1 request waits" if count == 1 else f"{count} requests wait"
