"""How long placing takes on a large fleet. A process of its own on one core, so that its peak
memory is the scheduler's: `python -m simulation.scheduling.scale SEED CHANGES` prints JSON.
"""

import gc
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec
from simulation.scheduling.rules import broken_rules
from simulation.scheduling.worlds import (
    GIB,
    LARGE,
    World,
    a_large_world,
    a_model,
    a_worker,
    gangs_of,
    runtime_of,
)

from pipelines.scheduler import Fleet, Proposal, place
from pipelines.topology import Gang
from registry.state import Claim, PlannedGang, Snapshot

_T = TypeVar("_T")
_URGENT = 900  # a priority above that of all who are there
_TESTS = Path(__file__).parents[2]


class Taken(msgspec.Struct, frozen=True):
    """Seconds of CPU and by the clock."""

    cpu_s: float
    wall_s: float


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """*changes* are single models placed on the fleet that *full* left, each against the same kept
    `Fleet`; *build* is what making that one from a snapshot takes.
    """

    nodes: int
    devices: int
    models: int
    workers: int
    in_gangs: int
    placed: int
    full_share: float
    full: Taken
    build: Taken
    changes: int
    changes_placed: int
    changes_refused: int
    changes_evicting: int
    change_p50_ms: float
    change_p99_ms: float
    change_max_ms: float
    peak_mib: float


def measured_apart(seed: int, changes: int) -> Scale:
    """In a fresh process."""
    command = [sys.executable, "-m", "simulation.scheduling.scale", str(seed), str(changes)]
    environment = {**os.environ, "PYTHONPATH": f"{_TESTS}{os.pathsep}{_TESTS.parent}"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return msgspec.json.decode(done.stdout, type=Scale)


def measured(world: World, seed: int, changes: int) -> Scale:
    snapshot, gangs = world.snapshot, world.gangs
    gc.collect()
    full, proposal = _timed(lambda: place(snapshot, gangs, runtime_of))
    broken = broken_rules(world, proposal.placed)
    assert not broken, broken[:3]
    placed = [worker for gang in proposal.placed for worker in gang.workers]
    after = occupied(snapshot, proposal.placed)
    gc.collect()
    build, fleet = _timed(lambda: Fleet(after))
    each: list[float] = []
    outcomes = {"placed": 0, "refused": 0, "evicting": 0}
    for change in _changes(seed, changes, after):
        taken, answer = _timed(lambda change=change: place(after, change, runtime_of, fleet))
        each.append(taken.cpu_s * 1000)
        outcomes[_outcome(answer)] += 1
    each.sort()
    total_bytes = sum(device.memory_bytes for device in snapshot.devices)
    return Scale(
        nodes=len(snapshot.nodes),
        devices=len(snapshot.devices),
        models=len(snapshot.models),
        workers=sum(map(len, gangs)),
        in_gangs=sum(len(gang) for gang in gangs if len(gang) > 1),
        placed=len(placed),
        full_share=sum(c.memory_bytes for worker in placed for c in worker.claims) / total_bytes,
        full=full,
        build=build,
        changes=len(each),
        changes_placed=outcomes["placed"],
        changes_refused=outcomes["refused"],
        changes_evicting=outcomes["evicting"],
        change_p50_ms=each[len(each) // 2],
        change_p99_ms=each[len(each) * 99 // 100],
        change_max_ms=each[-1],
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def _timed(work: Callable[[], _T]) -> tuple[Taken, _T]:
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    return Taken(time.process_time() - cpu, time.perf_counter() - wall), answer


def _outcome(answer: Proposal) -> str:
    if answer.evicted:
        return "evicting"
    return "refused" if answer.refused else "placed"


def occupied(snapshot: Snapshot, placed: tuple[PlannedGang, ...]) -> Snapshot:
    """The snapshot once all that was placed runs."""
    workers, claims = [], []
    for gang in placed:
        for planned in gang.workers:
            worker = a_worker(planned.plan, planned.node)
            workers.append(worker)
            claims += [
                Claim(worker_id=worker.id, device_id=c.device_id, memory_bytes=c.memory_bytes)
                for c in planned.claims
            ]
    return msgspec.structs.replace(
        snapshot,
        workers=(*snapshot.workers, *workers),
        claims=(*snapshot.claims, *claims),
    )


def _changes(seed: int, count: int, snapshot: Snapshot) -> Iterator[tuple[Gang, ...]]:
    """One model each: a new one, one with a worker more, one that is urgent and makes room, and one
    that cannot be placed anywhere.
    """
    chance = Random(seed + 1)
    for number in range(count):
        model = a_model(chance, f"new-{number}", [f"team-{number % 40}"], LARGE)
        kind = number % 4
        if kind == 0:
            yield gangs_of([model])
        elif kind == 1:
            plan = chance.choice(snapshot.workers).plan
            yield ((msgspec.structs.replace(plan, ordinal=500 + number),),)
        elif kind == 2:
            yield tuple(
                tuple(msgspec.structs.replace(plan, priority=_URGENT) for plan in gang)
                for gang in gangs_of([model])
            )
        else:
            plan = gangs_of([model])[0][0]
            yield ((msgspec.structs.replace(plan, memory_bytes=100 * GIB, ordinal=0),),)


def main() -> None:
    seed, changes = int(sys.argv[1]), int(sys.argv[2])
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    scale = measured(a_large_world(seed), seed, changes)
    sys.stdout.write(msgspec.json.encode(scale).decode())


if __name__ == "__main__":
    main()
