"""Who is awake and asleep in each pool, for people."""

from collections import defaultdict

import msgspec

from pipelines.awake.line import pools_of
from pipelines.awake.units import DOWN_PHASES
from pipelines.awake.wishes import NOTHING, wishes
from registry.state import Pool, Snapshot


class DeviceCrowd(msgspec.Struct, frozen=True, kw_only=True):
    """A device that workers of the pool are on: which models are *awake* there and which asleep,
    what the pool claims now, what it would with all of it awake, and what others claim.
    """

    device: str
    memory_bytes: int
    claimed_bytes: int
    all_awake_bytes: int
    others_bytes: int
    awake: tuple[str, ...]
    asleep: tuple[str, ...]


class MemberDemand(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the pool: its workers by what they do, and who asks for it. *asked_at* 0: never,
    as far as is known.
    """

    model: str
    awake: int
    asleep: int
    queued: int
    in_flight: int
    asked_at: float


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """*is_set*: it has settings of its own."""

    pool: Pool
    is_set: bool
    members: tuple[MemberDemand, ...]
    devices: tuple[DeviceCrowd, ...]


def crowds(snapshot: Snapshot, now: float) -> tuple[Crowd, ...]:
    """Of every pool that models name or that has settings, by name."""
    given = {pool.name: pool for pool in snapshot.pools}
    pools = given | pools_of(snapshot)
    return tuple(
        Crowd(
            pool=pools[name],
            is_set=name in given,
            members=_members(snapshot, name, now),
            devices=_devices(snapshot, name),
        )
        for name in sorted(pools)
    )


def _members(snapshot: Snapshot, pool: str, now: float) -> tuple[MemberDemand, ...]:
    asked = wishes(snapshot.demand, now)
    found = []
    for model in snapshot.models:
        if model.spec.pool != pool or model.deleted:
            continue
        phases = [w.phase for w in snapshot.workers if w.plan.model == model.name]
        asleep = sum(phase in DOWN_PHASES for phase in phases)
        wish = asked.get(model.name, NOTHING)
        found.append(
            MemberDemand(
                model=model.name,
                awake=len(phases) - asleep,
                asleep=asleep,
                queued=wish.queued,
                in_flight=wish.in_flight,
                asked_at=wish.asked_at,
            )
        )
    return tuple(found)


def _devices(snapshot: Snapshot, pool: str) -> tuple[DeviceCrowd, ...]:
    mine = {model.name for model in snapshot.models if model.spec.pool == pool}
    workers = {w.id: w for w in snapshot.workers if w.plan.model in mine}
    claims = defaultdict(list)
    for claim in snapshot.claims:
        claims[claim.device_id].append(claim)
    found = []
    for device in snapshot.devices:
        held = [(workers[c.worker_id], c) for c in claims[device.id] if c.worker_id in workers]
        if not held:
            continue
        claimed_bytes = sum(claim.memory_bytes for _, claim in held)
        names = defaultdict(set)
        for worker, _ in held:
            names[worker.phase in DOWN_PHASES].add(worker.plan.model)
        found.append(
            DeviceCrowd(
                device=device.id,
                memory_bytes=device.memory_bytes,
                claimed_bytes=claimed_bytes,
                all_awake_bytes=sum(w.plan.memory_bytes or device.memory_bytes for w, _ in held),
                others_bytes=sum(c.memory_bytes for c in claims[device.id]) - claimed_bytes,
                awake=tuple(sorted(names[False])),
                asleep=tuple(sorted(names[True])),
            )
        )
    return tuple(found)
