"""Whatever goes wrong in a fleet, nothing is claimed twice; and when it stops, all is served.

`SIMULATION_SEEDS=500 pytest tests/simulation/test_fleet_simulation.py` looks further.
"""

import asyncio
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from simulation.fleet.world import ME, Clock, World, unsettled

from pipelines import controller, drains
from pipelines.awake.places import place_awake_or_asleep
from pipelines.scheduler import Proposal
from registry import db
from registry.state import NodeState
from registry.store import Store

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "4"))
TURNS = 60
MODELS_AT_FIRST = 6
TURNS_TO_SETTLE_MAX = 200
AT_REST = 5


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    patch = pytest.MonkeyPatch()
    patch.setattr(db, "SYNCHRONOUS", "OFF")
    folder = tmp_path_factory.mktemp("empty")
    asyncio.run(db.upgrade(f"sqlite+aiosqlite:///{folder / 'modelyard.db'}"))
    yield folder / "modelyard.db"
    patch.undo()


async def test_a_node_that_was_parted_comes_back_only_clean(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers ran on; `World.turn` checks that it gets nothing while they do."""
    shutil.copy(empty, tmp_path / "modelyard.db")
    clock = Clock()
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'modelyard.db'}", clock=clock)
    world = World(store, clock, seed=1)
    monkeypatch.setattr(drains, "scrape", world.scrape)
    try:
        world.machines.troubled = False
        for _ in range(6):
            await store.apply_model(world.a_spec(), by=ME)
        for _ in range(15):
            await world.turn()
        (node, _), *_ = world.machines.running()
        world.machines.machines[node].parted = True
        for _ in range(18):
            seen = await world.turn()
        assert not [worker for worker in seen.workers if worker.node == node]
        assert [n.state for n in seen.nodes if n.name == node] == [NodeState.UNKNOWN]
        world.machines.machines[node].parted = False
        for _ in range(18):
            seen = await world.turn()
        assert [n.state for n in seen.nodes if n.name == node] == [NodeState.READY]
    finally:
        await store.aclose()


async def test_all_else_goes_on_while_the_scheduler_thinks(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large fleet's placement takes seconds: the lease has to be renewed meanwhile."""
    shutil.copy(empty, tmp_path / "modelyard.db")
    clock = Clock()
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'modelyard.db'}", clock=clock)
    world = World(store, clock, seed=1)
    monkeypatch.setattr(drains, "scrape", world.scrape)
    loop, others_went_on = asyncio.get_running_loop(), threading.Event()

    def thinks(*asked: Any, **more: Any) -> Proposal:
        loop.call_soon_threadsafe(others_went_on.set)
        assert others_went_on.wait(2.0), "nothing else went on"
        return place_awake_or_asleep(*asked, **more)

    monkeypatch.setattr(controller, "place_awake_or_asleep", thinks)
    try:
        await store.apply_model(world.a_spec(), by=ME)
        await world.turn()
    finally:
        await store.aclose()
    assert others_went_on.is_set()


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_fleet_in_trouble(
    seed: int, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty, tmp_path / "modelyard.db")
    clock = Clock()
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'modelyard.db'}", clock=clock)
    world = World(store, clock, seed)
    monkeypatch.setattr(drains, "scrape", world.scrape)
    try:
        for _ in range(MODELS_AT_FIRST):
            await store.apply_model(world.a_spec(), by=ME)
        for _ in range(TURNS):
            await world.trouble()
            await world.turn()
        await world.heal()
        await _settles(world)
    except BaseException:
        print("\n".join(world.told))  # noqa: T201 - shown when it fails
        raise
    finally:
        await store.aclose()


async def _settles(world: World) -> None:
    rest = 0
    for _ in range(TURNS_TO_SETTLE_MAX):
        seen = await world.turn()
        left = unsettled(seen, world.machines)
        rest = 0 if left else rest + 1
        if rest == AT_REST:
            return
    raise AssertionError(left)
