"""A fleet that is not there, under the real controller, scheduler and store, and its invariants.

Everything that goes wrong is drawn from one seed, and time is counted, not waited for: a seed that
fails fails again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from simulation.fleet.machines import DEVICE_BYTES, Machines
from unmeasured import Unmeasured

from pipelines.commands import Commands
from pipelines.controller import Controller
from pipelines.engines.base import EngineMetrics
from pipelines.probe import ProbeError
from pipelines.topology import expand
from registry import spec as specs
from registry.errors import ConflictError, NotFoundError
from registry.state import (
    ENDED_PHASES,
    LEAVING_PHASES,
    NodeState,
    Phase,
    Principal,
    Snapshot,
    Worker,
)
from registry.store import Store

ME = Principal(actor="operator")
NODES = {
    "a": {"fabric": "1"},
    "b": {"fabric": "1"},
    "c": {"fabric": "2"},
    "d": {"fabric": "2"},
}
DEVICES_PER_NODE = 4
NODE_LOST_S = 12.0
_VOLUNTARY = ("node ", "makes room for")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Prober:
    """Readiness without sockets: a worker is ready when its process serves, one of a pair when a
    process of the other role does too.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self.due: list[str] = []

    def look(self, workers: tuple[Worker, ...]) -> None:
        serving = {process.worker.id for _, process in self._world.reached() if process.serves}
        up = {(w.plan.model, w.plan.role) for w in workers if w.id in serving}
        for worker in workers:
            roles = [r for r in ("prefill", "decode") if worker.plan.role in {"prefill", "decode"}]
            paired = all((worker.plan.model, role) in up for role in roles)
            if worker.phase is Phase.STARTING and worker.id in serving and paired:
                self.due.append(worker.id)

    def unhealthy(self, workers: tuple[Worker, ...]) -> list[Worker]:
        return []


class World:
    def __init__(self, store: Store, clock: Clock, seed: int) -> None:
        self.store, self.clock = store, clock
        self.random = random.Random(seed)
        self.machines = Machines(NODES, DEVICES_PER_NODE, seed)
        self.machines.on_start = self._check_start
        self.busy = True
        self.controller = self._controller()
        self.before: Snapshot | None = None
        self.told: list[str] = []  # what happened, to read when a seed fails

    def _controller(self) -> Controller:
        client: Any = httpx.AsyncClient  # nothing is asked over a socket
        return Controller(
            self.store, self.machines, client, node_lost_s=NODE_LOST_S, clock=self.clock
        )

    def reached(self) -> Iterator[Any]:
        for name, process in self.machines.running():
            if self.machines.machines[name].answers:
                yield name, process

    async def scrape(self, _client: object, worker: Worker, timeout_s: float) -> EngineMetrics:
        if not any(process.worker.id == worker.id for _, process in self.reached()):
            raise ProbeError("no answer")
        running = int(self.busy and self.random.random() < 0.7)
        return EngineMetrics(requests_running=running)

    async def turn(self) -> Snapshot:
        """One turn of the controller and of the machines, and what must hold after it."""
        self.clock.now += self.random.choice((0.5, 1.0, 2.0))
        self.machines.step()
        self.before = await self.store.snapshot()
        prober: Any = Prober(self)
        measured: Any = Unmeasured()
        async with asyncio.TaskGroup() as tasks:
            commands = Commands(tasks)
            try:
                await self.controller.turn(prober, commands, measured)
            except Exception as error:
                if "ClusterError" not in type(error).__name__:
                    raise
            await self._check_turn()
            await commands.settled()
        for worker_id in prober.due:
            await self.store.set_worker(worker_id, Phase.READY)
        after = await self.store.snapshot()
        self._check_machines(after)
        return after

    # --- what must hold

    async def _check_start(self, worker: Worker) -> None:
        seen = await self.store.snapshot()
        states = {node.name: node.state for node in seen.nodes}
        live = {known.id: known for known in seen.workers}
        assert worker.id in live, f"{worker.id} is started after its end"
        assert live[worker.id].node == worker.node
        assert states[worker.node] in {NodeState.READY, NodeState.CORDONED, NodeState.DRAINING}

    async def _check_turn(self) -> None:
        """What the controller itself did in this turn."""
        before, after = self.before, await self.store.snapshot()
        assert before is not None
        was = {worker.id: worker for worker in before.workers}
        states = {node.name: node.state for node in after.nodes}
        for worker in after.workers:
            if worker.id not in was:
                assert states[worker.node] is NodeState.READY, f"{worker.id} on {worker.node}"
        wanted = {p.slot for model in after.models for gang in expand(model) for p in gang}
        served = {w.plan.slot for w in after.workers if w.phase is Phase.READY}
        sent_away = {
            worker.plan.slot[:3]
            for worker in after.workers
            if worker.phase is Phase.DRAINING
            and worker.plan.slot in wanted - served
            and worker.id in was
            and was[worker.id].phase is Phase.READY
            and worker.reason.startswith(_VOLUNTARY)
        }
        ready = Counter(w.plan.slot[:3] for w in after.workers if w.phase is Phase.READY)
        for model in after.models:
            for variant in model.spec.variants:
                for role, spec in variant.topology.roles():
                    part = (model.name, variant.name, role)
                    assert part not in sent_away or ready[part] >= spec.min_available, (
                        f"{part} has {ready[part]} ready, its minimum is {spec.min_available}"
                    )

    def _check_machines(self, seen: Snapshot) -> None:
        assert self.before is not None
        running = {process.worker.id for _, process in self.machines.running()}
        ended_before = {worker.id for worker in self.before.ended}
        for worker in seen.ended:
            if worker.id not in ended_before and worker.phase is not Phase.LOST:
                assert worker.id not in running, f"the claims of {worker.id} went while it runs"
        known = {worker.id: worker for worker in seen.workers}
        states = {node.name: node.state for node in seen.nodes}
        for worker_id in running - known.keys():
            (node,) = [n for n, p in self.machines.running() if p.worker.id == worker_id]
            assert states.get(node) is NodeState.UNKNOWN, f"{worker_id} is a stray on {node}"
        for machine in self.machines.machines.values():
            for device, held in machine.used().items():
                assert held <= DEVICE_BYTES, f"{device} is oversold: {held}"
        slots = Counter((w.plan.slot, w.plan.fingerprint) for w in seen.workers if not w.departing)
        assert set(slots.values()) <= {1}

    # --- what goes wrong, and what operators do

    async def trouble(self) -> None:
        """Something, or nothing."""
        actions: tuple[tuple[float, Callable[[], Any]], ...] = (
            (0.08, self._crash),
            (0.25, self._come_back),
            (0.08, self._part),
            (0.10, self._mute),
            (0.05, self._fail_a_worker),
            (0.04, self._restart_controller),
            (0.04, self._head),
            (0.08, self._node_state),
            (0.10, self._apply),
            (0.02, self._delete),
        )
        for chance, action in actions:
            if self.random.random() < chance:
                done = action()
                if asyncio.iscoroutine(done):
                    await done
                self.told.append(f"{self.clock.now:.1f} {action.__name__}")

    def _machine(self) -> Any:
        return self.random.choice(list(self.machines.machines.values()))

    def _crash(self) -> None:
        self._machine().crash(wiped=self.random.random() < 0.5)

    def _come_back(self) -> None:
        machine = self._machine()
        machine.alive, machine.parted = True, False

    def _part(self) -> None:
        self._machine().parted = True

    def _mute(self) -> None:
        self._machine().mute = True

    def _fail_a_worker(self) -> None:
        running = self.machines.running()
        if running:
            self.random.choice(running)[1].phase = Phase.FAILED

    def _restart_controller(self) -> None:
        self.controller = self._controller()

    def _head(self) -> None:
        self.machines.head_away = not self.machines.head_away

    async def _node_state(self) -> None:
        state = self.random.choice((NodeState.READY, NodeState.CORDONED, NodeState.DRAINING))
        try:
            await self.store.set_node_state(self.random.choice(list(NODES)), state, by=ME)
        except NotFoundError:
            return

    async def _delete(self) -> None:
        try:
            await self.store.delete_model(f"m{self.random.randrange(5)}", by=ME)
        except (NotFoundError, ConflictError):
            return

    async def _apply(self) -> None:
        await self.store.apply_model(self.a_spec(), by=ME)

    def a_spec(self) -> Any:
        """One of five models, in some size."""
        number = self.random.randrange(5)
        if number < 3:
            workers = self.random.randint(1, 3)
            least = self.random.randint(0, workers)
            role = {"workers": workers, "min_available": least, "memory": "2GiB"}
            topology = {"type": "aggregated", **role}
        else:
            locality = self.random.choice(("prefer", "fabric", "node"))
            roles = {
                role: {"workers": self.random.randint(1, 2), "memory": ""}
                for role in ("prefill", "decode")
            }
            topology = {"type": "disaggregated", "locality": locality, **roles}
        return specs.from_data(
            {
                "name": f"m{number}",
                "source": "file:///nowhere",
                "priority": self.random.choice((100, 100, 500)),
                "variants": [{"engine": "emulator", "topology": topology}],
            }
        )

    async def heal(self) -> None:
        self.busy, self.machines.troubled, self.machines.head_away = False, False, False
        for machine in self.machines.machines.values():
            machine.alive, machine.parted = True, False
        for node in (await self.store.snapshot()).nodes:
            await self.store.set_node_state(node.name, NodeState.READY, by=ME)


def unsettled(seen: Snapshot, machines: Machines) -> list[str]:
    """What is neither as desired nor explained by a condition."""
    complaints = []
    for model in seen.models:
        mine = [worker for worker in seen.workers if worker.plan.model == model.name]
        if model.deleted:
            complaints += [f"{worker.id} outlives its model" for worker in mine]
            continue
        wanted = {(p.slot, p.fingerprint) for gang in expand(model) for p in gang}
        ready = [(w.plan.slot, w.plan.fingerprint) for w in mine if w.phase is Phase.READY]
        complete = set(ready) == wanted and len(ready) == len(mine) == len(wanted)
        if complete == bool(model.condition):
            complaints.append(f"{model.name}: complete {complete}, says {model.condition!r}")
        if "starts again" in model.condition:
            complaints.append(f"{model.name} waits: {model.condition}")
    live = {w.id for w in seen.workers}
    complaints += [
        f"{p.worker.id} is a stray" for _, p in machines.running() if p.worker.id not in live
    ]
    complaints += [
        f"{w.id} leaves" for w in seen.workers if w.phase in LEAVING_PHASES | ENDED_PHASES
    ]
    complaints += [f"{w.id} departs" for w in seen.workers if w.departing]
    complaints += [f"{n.name} is {n.state}" for n in seen.nodes if n.state is not NodeState.READY]
    return complaints
