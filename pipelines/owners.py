"""What the workers of each owner's models hold, beside what they may. Pure."""

from collections import Counter

import msgspec

from registry.state import Quota, Snapshot


class OwnerUse(msgspec.Struct, frozen=True, kw_only=True):
    """*devices* and *memory_bytes* are held now, *…_then* once a plan has come true."""

    owner: str
    quota: Quota | None
    models: tuple[str, ...]
    devices: int
    memory_bytes: int
    devices_then: int
    memory_bytes_then: int


def uses(now: Snapshot, then: Snapshot) -> tuple[OwnerUse, ...]:
    """Of every owner that has a quota or a model, by name, as the specs of *then* name owners."""
    owner_of = {model.name: model.spec.owner for model in then.models}
    devices, memory = _held(now, owner_of)
    devices_then, memory_then = _held(then, owner_of)
    quotas = {quota.owner: quota for quota in then.quotas}
    return tuple(
        OwnerUse(
            owner=owner,
            quota=quotas.get(owner),
            models=tuple(sorted(name for name in owner_of if owner_of[name] == owner)),
            devices=devices[owner],
            memory_bytes=memory[owner],
            devices_then=devices_then[owner],
            memory_bytes_then=memory_then[owner],
        )
        for owner in sorted({*owner_of.values(), *quotas})
    )


def _held(snapshot: Snapshot, owner_of: dict[str, str]) -> tuple[Counter[str], Counter[str]]:
    """A device that two workers share counts for each, as where quotas are verified."""
    owners = {
        worker.id: owner_of.get(worker.plan.model, worker.plan.owner) for worker in snapshot.workers
    }
    devices: Counter[str] = Counter()
    memory: Counter[str] = Counter()
    for claim in snapshot.claims:
        owner = owners[claim.worker_id]
        devices[owner] += 1
        memory[owner] += claim.memory_bytes
    return devices, memory
