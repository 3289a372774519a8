"""Places for workers of a pool that find no room awake: asleep, where they can wake in their turn.

On each device the workers of a pool, all of them awake, may add up to *overcommit* times what is
not held by others; and each must fit there alone. The scheduler is asked as it is, over a view of
the fleet in which just that much is free.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from pipelines.awake.arrange import promises
from pipelines.awake.line import minima, pools_of
from pipelines.awake.units import UP_PHASES, part_of
from pipelines.awake.wishes import wishes
from pipelines.scheduler import Proposal, RuntimeOf, place
from pipelines.topology import Gang
from registry.state import (
    LEAVING_PHASES,
    Claim,
    Device,
    DeviceClaim,
    PlannedGang,
    Pool,
    Snapshot,
)

replace = msgspec.structs.replace


def place_awake_or_asleep(
    snapshot: Snapshot,
    gangs: Sequence[Gang],
    runtime_of: RuntimeOf,
    now: float,
    *,
    held: Iterable[Gang] = (),
) -> Proposal:
    """As `place`, beside what is promised to those that wait to wake; and those of a pool that
    would be refused get places asleep, where there are.

    Whoever waits for a place that comes goes on waiting, and so does a successor in a slot: who is
    in it makes room first.
    """
    promised = promises(snapshot, now) if gangs else ()
    proposal = place(snapshot, gangs, runtime_of, held=held, promised=promised)
    pool_of = {model.name: model.spec.pool for model in snapshot.models}
    filled = {w.plan.slot for w in snapshot.workers if w.phase not in LEAVING_PHASES}
    wanting: dict[str, list[Gang]] = defaultdict(list)
    for refusal in proposal.refused:
        pool = pool_of.get(refusal.plan.model, "")
        if pool and not refusal.waits_for and not filled & {p.slot for p in refusal.gang}:
            wanting[pool].append(refusal.gang)
    if not wanting:
        return proposal
    pools = pools_of(snapshot)
    asleep: list[PlannedGang] = []
    for name, some in sorted(wanting.items()):
        crowd = _Crowd(snapshot, pools[name], pool_of, now)
        for gang in proposal.placed:
            crowd.add(gang, awake=True)
        asleep += crowd.place(some, runtime_of)
    seated = {worker.plan.slot for gang in asleep for worker in gang.workers}
    return replace(
        proposal,
        placed=(*proposal.placed, *asleep),
        refused=tuple(r for r in proposal.refused if r.plan.slot not in seated),
    )


class _Crowd:
    """Who is on each device, as one pool sees it. Bytes by device: *awake* is what the pool's own
    workers take once all of them are awake, *others* what anybody else holds, *kept* what its own
    hold while they sleep, or awake where they are never taken away, *busy* what those need that are
    asked for; *held* is all that is claimed now.
    """

    def __init__(self, snapshot: Snapshot, pool: Pool, pool_of: dict[str, str], now: float) -> None:
        self._snapshot = snapshot
        self._pool = pool
        self._pool_of = pool_of
        self._least = minima(snapshot)
        self._devices = {device.id: device for device in snapshot.devices}
        self._awake: Counter[str] = Counter()
        self._others: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._busy: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        workers = {worker.id: worker for worker in snapshot.workers}
        asked = wishes(snapshot.demand, now)
        for claim in snapshot.claims:
            device_id, worker = claim.device_id, workers.get(claim.worker_id)
            self._held[device_id] += claim.memory_bytes
            if worker is None or pool_of.get(worker.plan.model) != pool.name:
                self._others[device_id] += claim.memory_bytes
                continue
            if worker.phase in LEAVING_PHASES:
                continue
            awake_bytes = worker.plan.memory_bytes or self._size(device_id)
            self._awake[device_id] += awake_bytes
            wish = asked.get(worker.plan.model)
            if wish is not None and not wish.is_calm(now):
                self._busy[device_id] += awake_bytes
            stays = worker.phase in UP_PHASES and self._least[part_of(worker.plan)] > 0
            if stays or claim.memory_bytes < awake_bytes:
                self._kept[device_id] += claim.memory_bytes

    def add(self, gang: PlannedGang, *, awake: bool) -> None:
        """Placed by the same proposal."""
        for worker in gang.workers:
            own = self._pool_of.get(worker.plan.model) == self._pool.name
            for claim in worker.claims:
                device_id = claim.device_id
                full = worker.plan.memory_bytes or self._size(device_id)
                (self._awake if own else self._others)[device_id] += full
                if own and awake and self._least[part_of(worker.plan)]:
                    self._kept[device_id] += full

    def place(self, gangs: Sequence[Gang], runtime_of: RuntimeOf) -> list[PlannedGang]:
        """Where those that are asked for leave room, then anywhere; and the emptiest devices first:
        those that have room at a low overcommit, then at higher ones. One time round seats no more
        than can be awake together, so it is gone round again.
        """
        found: list[PlannedGang] = []
        wanting = list(gangs)
        for busy in (self._busy, Counter[str]()):
            for overcommit in _steps(self._pool.overcommit):
                while wanting:
                    placed = place(self._view(overcommit, busy), wanting, runtime_of).placed
                    if not placed:
                        break
                    for gang in placed:
                        self.add(gang, awake=False)
                    found += map(_asleep, placed)
                    seated = {worker.plan.slot for gang in placed for worker in gang.workers}
                    wanting = [gang for gang in wanting if gang[0].slot not in seated]
        return found

    def _view(self, overcommit: float, busy: Counter[str]) -> Snapshot:
        """The fleet without any other rest than what this pool may still take."""
        claims, devices = [], []
        for device in self._snapshot.devices:
            taken = device.memory_bytes - self._free(device, overcommit, busy[device.id])
            claims.append(Claim(worker_id=_NOBODY, device_id=device.id, memory_bytes=taken))
            foreign = max(0, device.used_bytes - self._held[device.id])
            devices.append(replace(device, used_bytes=foreign and foreign + taken))
        return replace(
            self._snapshot,
            devices=tuple(devices),
            claims=tuple(claims),
            quotas=(),  # they count what is held, and a sleeper that is placed holds nothing
        )

    def _free(self, device: Device, overcommit: float, busy_bytes: int) -> int:
        """What of it the pool may still place."""
        rest = device.memory_bytes - self._others[device.id]
        more = int(overcommit * rest) - self._awake[device.id]
        return max(0, min(rest - self._kept[device.id] - busy_bytes, more))

    def _size(self, device_id: str) -> int:
        device = self._devices.get(device_id)
        return device.memory_bytes if device else 0


def _steps(most: float) -> Iterator[float]:
    """1, 1.5, 2.25 … and *most*."""
    step = 1.0
    while step < most:
        yield step
        step *= 1.5
    yield most


_NOBODY = ""  # whose claims are those of a view


def _asleep(gang: PlannedGang) -> PlannedGang:
    return PlannedGang(
        workers=tuple(
            replace(
                worker,
                claims=tuple(
                    DeviceClaim(device_id=claim.device_id, memory_bytes=0)
                    for claim in worker.claims
                ),
            )
            for worker in gang.workers
        ),
        asleep=True,
    )
