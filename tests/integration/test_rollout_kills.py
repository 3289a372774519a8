"""A controller that is killed before or after any of its writes costs a rollout nothing but time.

The real controller, scheduler and store, on machines that are not there and with time that is
counted. A run without a kill says which writes to the store there are. Before each of its turns the
world is copied, controller and database and all, once for each write of that turn: this is the last
one that the copy's controller makes, and the next controller goes on.
"""

import asyncio
import contextlib
import copy
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
import pytest
from registry_world import ME, Clock, url_in
from simulation.fleet.machines import Machines
from unmeasured import Unmeasured

from pipelines import drains
from pipelines.commands import Commands
from pipelines.controller import Controller
from pipelines.engines.base import EngineMetrics
from registry import spec as specs
from registry.spec import ModelSpec, Role
from registry.state import Phase, RolloutState, Snapshot, Worker
from registry.store import Store
from registry.traffic import Traffic

DEVICES = 5
TURNS_MAX = 120
PARTS = 4  # of the places to be killed at, so that no test takes long
_READS = frozenset({"snapshot", "version", "traffic"})  # a kill beside a read is one beside a write


class KilledError(BaseException):
    """No `except Exception` survives it: so does no controller."""


class Mortal:
    """The store of one controller, which is killed after its write of number *last* (0: before the
    first), and so before the next one.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.last: int | None = None
        self.calls: list[str] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "Mortal":
        """What holds it goes on with a copy, whose *store* is then set."""
        made = Mortal(self.store)
        made.last, made.calls = self.last, list(self.calls)
        return made

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self.store, name)
        if name in _READS:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.last == 0:
                raise KilledError(name)
            self.calls.append(name)
            answer = await method(*args, **kwargs)
            if len(self.calls) == self.last:
                raise KilledError(name)
            return answer

        return call


class Prober:
    """A worker is ready when its process serves."""

    def __init__(self, machines: Machines, *, never: str) -> None:
        self._machines, self._never = machines, never
        self.due: list[str] = []

    def look(self, workers: tuple[Worker, ...]) -> None:
        serving = {process.worker.id for _, process in self._machines.running() if process.serves}
        self.due = [
            worker.id
            for worker in workers
            if worker.phase is Phase.STARTING
            and worker.id in serving
            and worker.plan.role != self._never
        ]

    def unhealthy(self, _workers: tuple[Worker, ...]) -> list[Worker]:
        return []


class World:
    """A model that serves on three of five devices, and its controllers."""

    def __init__(self, store: Store, clock: Clock, machines: Machines) -> None:
        self.store, self.clock, self.machines = store, clock, machines
        self.kills = 0
        self.mortal = self._born()
        self.never = ""  # the role whose new workers do not come up
        self.least = 0  # how many must serve
        self.errors: tuple[int, int] = (0, 0)  # of the old revision's and the new one's requests

    def _born(self) -> Mortal:
        mortal = Mortal(self.store)
        store: Any = mortal
        client: Any = httpx.AsyncClient  # nothing is asked over a socket
        self.controller = Controller(
            store, self.machines, client, node_lost_s=30.0, clock=self.clock
        )
        return mortal

    def copied(self) -> Self:
        """It and all that it remembers, but for the database, which `on` gives it."""
        return copy.deepcopy(self, {id(self.store): self.store})

    @contextlib.asynccontextmanager
    async def on(self, database: Path) -> AsyncIterator[Self]:
        """With *database*, a copy of the one that it stood on."""
        self.store = await Store.open(url_in(database.parent), clock=self.clock)
        self.mortal.store = self.store
        try:
            yield self
        finally:
            await self.store.aclose()

    async def turn(self) -> Snapshot:
        self.clock.now += 1.0
        self.machines.step()
        prober: Any = Prober(self.machines, never=self.never)
        await self._serve()
        async with asyncio.TaskGroup() as tasks:
            commands = Commands(tasks)
            try:
                await self.controller.turn(prober, commands, Unmeasured())
            except KilledError:
                self.kills += 1
                self.mortal = self._born()
                for call in tuple(commands._running.values()):
                    call.cancel()  # it does not get as far as the node
            await commands.settled()
        for worker_id in prober.due:
            await self.store.set_worker(worker_id, Phase.READY)
        seen = await self.store.snapshot()
        self._check(seen)
        return seen

    async def _serve(self) -> None:
        """What the gateways tell, if anything fails at all."""
        rollout = (await self.store.snapshot()).models[0].rollout
        if rollout is None or not any(self.errors):
            return
        revisions = (rollout.from_revision, rollout.to_revision)
        await self.store.record_traffic(
            [
                Traffic(
                    at=self.clock.now,
                    gateway="g",
                    model="m",
                    variant="default",
                    revision=revision,
                    requests=100,
                    errors=errors,
                )
                for revision, errors in zip(revisions, self.errors, strict=True)
            ]
        )

    def _check(self, seen: Snapshot) -> None:
        ready = [worker for worker in seen.workers if worker.phase is Phase.READY]
        assert len(ready) >= self.least, [str(worker) for worker in seen.workers]
        slots = Counter((w.plan.slot, w.plan.fingerprint) for w in seen.workers if not w.departing)
        assert set(slots.values()) <= {1}, slots
        live = {worker.id for worker in seen.workers}
        assert {claim.worker_id for claim in seen.claims} == live
        for device, used in self.machines.machines["a"].used().items():
            assert used <= 4 * 2**30, f"{device} is oversold"

    async def until(self, over: Callable[[Snapshot], bool]) -> Snapshot:
        for _ in range(TURNS_MAX):
            seen = await self.turn()
            if over(seen):
                return seen
        raise AssertionError(f"not over: {seen.models} {seen.workers}")


def spec(topology: dict[str, Any], **rollout: Any) -> ModelSpec:
    return specs.from_data(
        {
            "name": "m",
            "source": "file:///nowhere",
            "variants": [{"engine": "emulator", "topology": topology}],
            "rollout": rollout,
        }
    )


ROLE = {"memory": "4GiB"}
OLD = {"type": "aggregated", "workers": 3, **ROLE}
NEW = {
    "type": "disaggregated",
    "prefill": {"workers": 2, **ROLE},
    "decode": {"workers": 1, **ROLE},
}


async def _no_requests(_client: object, _worker: Worker, timeout_s: float) -> EngineMetrics:
    return EngineMetrics(requests_running=0)


@pytest.fixture
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drains, "scrape", _no_requests)


async def serving(database: Path) -> tuple[Clock, Machines]:
    """The old revision is ready there."""
    clock = Clock()
    store = await Store.open(url_in(database.parent), clock=clock)
    machines = Machines({"a": {}}, DEVICES, seed=1)
    machines.troubled = False
    world = World(store, clock, machines)
    await store.apply_model(spec(OLD), by=ME)
    await world.until(lambda seen: roles(seen) == [Role.UNIFIED] * 3)
    await store.aclose()
    return clock, machines


def roles(seen: Snapshot) -> list[Role]:
    """Of the workers, once nothing changes, starts, leaves or is told of any more."""
    (model,) = seen.models
    rests = model.rollout is None and all(w.phase is Phase.READY for w in seen.workers)
    return sorted(w.plan.role for w in seen.workers) if rests and not model.condition else []


class Course(NamedTuple):
    """From `OLD` to `NEW` with this policy and these troubles, until *ends_as*; then *check*."""

    policy: dict[str, Any]
    ends_as: list[Role]
    check: Callable[[World, Snapshot], Awaitable[None]]
    errors: tuple[int, int] = (0, 0)
    never: str = ""

    async def begin(self, world: World) -> None:
        world.least, world.errors, world.never = 3, self.errors, self.never
        await world.store.apply_model(spec(NEW, canary=[25, 100], **self.policy), by=ME)

    def is_over(self, seen: Snapshot) -> bool:
        return roles(seen) == self.ends_as


async def rolled_over(world: World, _seen: Snapshot) -> None:
    (rollout,) = await world.store.rollouts("m")
    assert (rollout.state, rollout.step, rollout.percent) == (RolloutState.DONE, 2, 100)
    assert [r.number for r in await world.store.revisions("m")] == [1, 2]


async def rolled_back(world: World, seen: Snapshot) -> None:
    """The old revision must be as it was."""
    (rollout,) = await world.store.rollouts("m")
    assert rollout.state is RolloutState.ROLLED_BACK
    assert "gate failed" in rollout.reason
    assert [r.number for r in await world.store.revisions("m")] == [1, 2, 3]
    assert seen.models[0].spec == spec(OLD)


async def never_ready(world: World, seen: Snapshot) -> None:
    (rollout,) = await world.store.rollouts("m")
    assert rollout.state is RolloutState.ROLLED_BACK
    assert "0 of 1 decode ready" in rollout.reason
    assert seen.models[0].spec == spec(OLD)


GATE = {"gate": {"watch_s": 5.0, "requests_min": 20}}
PAIR, ALONE = [Role.DECODE, Role.PREFILL, Role.PREFILL], [Role.UNIFIED] * 3
COURSES = [
    Course(GATE, PAIR, rolled_over, errors=(1, 1)),
    Course(GATE, ALONE, rolled_back, errors=(1, 30)),
    Course({"ready_s": 20.0}, ALONE, never_ready, never=Role.DECODE),
]


@pytest.mark.usefixtures("_idle")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("course", COURSES, ids=lambda course: course.check.__name__)
async def test_a_controller_killed_at_any_write_costs_time_only(
    course: Course, part: int, empty_database: Path, tmp_path: Path
) -> None:
    database = tmp_path / "modelyard.db"
    shutil.copy(empty_database, database)
    clock, machines = await serving(database)

    def copy_of(source: Path, name: str) -> Path:
        made = tmp_path / name / source.name
        made.parent.mkdir()
        with (
            contextlib.closing(sqlite3.connect(source)) as here,
            contextlib.closing(sqlite3.connect(made)) as there,
        ):
            here.backup(there)
        return made

    async def killed(saved: World, source: Path, last: int) -> None:
        async with saved.copied().on(copy_of(source, f"killed-{last}")) as world:
            world.mortal.last = last
            await course.check(world, await world.until(course.is_over))
            assert world.kills == 1, last

    store = await Store.open(url_in(tmp_path), clock=clock)
    whole = World(store, clock, machines)
    await course.begin(whole)
    calls = whole.mortal.calls
    for turn in range(TURNS_MAX):
        saved, source = whole.copied(), copy_of(database, f"turn-{turn}")
        seen = await whole.turn()
        first = len(saved.mortal.calls) + 1 if turn else 0
        for last in range(first, len(calls) + 1):
            if last % PARTS == part:
                await killed(saved, source, last)
        if course.is_over(seen):
            break
    await course.check(whole, seen)
    await store.aclose()
    assert {"commit_gang", "set_worker", "set_condition"} < set(calls)
