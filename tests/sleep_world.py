"""A whole controller over a node in memory: its workers are emulators of this process."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress

from simulation.fleet.world import Unmeasured

from pipelines.cluster.base import ClusterError, Observation, Sighting
from pipelines.commands import Commands
from pipelines.controller import Controller
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.server import serve
from pipelines.probe import probe_client
from pipelines.readiness import Readiness
from registry.spec import from_data
from registry.state import Device, DeviceKind, NodeReport, Phase, Principal
from registry.store import Store
from registry.traffic import Demand

ME = Principal(actor="test")
DEVICE = Device(
    id="n/cpu0", node="n", index=0, kind=DeviceKind.CPU, model="cpu", memory_bytes=2**30
)
REPORT = NodeReport(
    name="n",
    address="127.0.0.1",
    device_kind=DeviceKind.CPU,
    runtimes=("builtin",),
    labels={},
    devices=(DEVICE,),
)


def a_spec(name="m", **more):
    topology = {"type": "aggregated"}
    variant = {"engine": "emulator", "topology": topology}
    return from_data({"name": name, "variants": [variant], "source": "file:///x", **more})


class Emulated:
    """One worker of the node: an emulator, and what its supervisor would say of it."""

    def __init__(self, worker, options):
        self.id = worker.id
        self.phase = Phase.STARTING
        self.reason = "the engine starts"
        self.stack = AsyncExitStack()
        self.token = worker.token
        self.options = options
        self.engine = None
        self.url = ""

    async def run(self):
        running = await self.stack.enter_async_context(serve(self.options, token=self.token))
        self.url, self.engine = running.url, running.engine

    async def end(self, phase, reason):
        self.phase, self.reason = phase, reason
        await self.stack.aclose()


class OneNode:
    """The cluster. *starts* are the worker ids of all starts, in their order."""

    def __init__(self, **options):
        self.workers = {}
        self.starts = []
        self.options = options
        self.answers = True
        self.refuses = False  # to start anything

    async def inventory(self):
        return (REPORT,) if self.answers else ()

    async def aclose(self):
        for worker in self.workers.values():
            await worker.stack.aclose()

    async def start(self, worker, devices):
        assert devices, worker
        if self.refuses:
            raise ClusterError("it does not start")
        if worker.id in self.workers:
            return  # once, as the real ones
        self.starts.append(worker.id)
        options = Options(
            model=worker.plan.model, enable_sleep_mode=worker.plan.sleeps, **self.options
        )
        emulated = self.workers[worker.id] = Emulated(worker, options)
        await emulated.run()

    async def stop(self, node, worker_id):
        if worker_id in self.workers and self.workers[worker_id].phase is Phase.STARTING:
            await self.workers[worker_id].end(Phase.STOPPED, "stopped")

    async def observe(self):
        seen = tuple(
            Observation(worker_id=w.id, node="n", phase=w.phase, reason=w.reason, url=w.url)
            for w in self.workers.values()
        )
        return Sighting(nodes=frozenset({"n"} if self.answers else {"other"}), workers=seen)

    async def forget(self, node, worker_id):
        assert self.workers[worker_id].phase is not Phase.STARTING, "a live one was forgotten"
        del self.workers[worker_id]


class KilledError(BaseException):
    """What a controller ends with that is killed: nothing in it takes care of that."""


class World:
    """A registry, a node, and one controller after the other."""

    def __init__(self, store: Store, cluster: OneNode, *, node_lost_s: float = 60.0):
        self.store = store
        self.cluster = cluster
        self.node_lost_s = node_lost_s

    async def turns(self, until, *, store=None, turns_max=400):
        """Turns of one controller until *until* is true of the snapshot."""
        async with probe_client() as client:
            controller = Controller(
                store or self.store, self.cluster, client, node_lost_s=self.node_lost_s
            )
            with suppress(_DoneError):
                try:
                    async with asyncio.TaskGroup() as tasks:
                        readiness = Readiness(
                            client, tasks, controller._set_worker, controller._clock
                        )
                        commands = Commands(tasks)
                        for _ in range(turns_max):
                            controller._inventory_at = 0.0
                            await controller.turn(readiness, commands, Unmeasured())
                            snapshot = await self.store.snapshot()
                            if until(snapshot):
                                await commands.settled()
                                raise _DoneError
                            await asyncio.sleep(0.01)
                        raise AssertionError(f"not reached, last: {snapshot.workers}")
                except* _DoneError:
                    raise _DoneError from None
                except* KilledError:
                    raise KilledError from None
        return await self.store.snapshot()

    async def ask(self, model="m", *, queued=1, asked_at=None):
        """What a gateway would tell."""
        now = time.time()
        await self.store.tell_demand(
            (
                Demand(
                    at=now,
                    gateway="g",
                    model=model,
                    queued=queued,
                    oldest_at=now if queued else 0.0,
                    asked_at=now if asked_at is None else asked_at,
                ),
            )
        )


class _DoneError(Exception):
    pass


class Fuse:
    """A store whose *left*-th write kills who made it: before it is done, or behind it."""

    WRITES = frozenset({"set_worker", "sleep_worker", "worker_sleeps", "wake_worker"})

    def __init__(self, store, left, *, behind):
        self._store = store
        self.left = left
        self.behind = behind

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if name not in self.WRITES:
            return method

        async def write(*args, **kwargs):
            self.left -= 1
            if self.left <= 0 and not self.behind:
                raise KilledError
            done = await method(*args, **kwargs)
            if self.left <= 0:
                raise KilledError
            return done

        return write


def phases(snapshot):
    return [worker.phase for worker in snapshot.workers]


def all_are(phase):
    return lambda snapshot: phases(snapshot) == [phase] * len(snapshot.workers) != []
