"""Three ways to give models devices: one each, as many on one as fit awake, or a pool."""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import Protocol

import msgspec
from simulation.pooling.catalog import GIB, KEPT_BYTES, Served
from simulation.pooling.engine import STEP_S, Engine, Request, advance_device

from pipelines.awake import arrange
from pipelines.awake.places import place_awake_or_asleep
from pipelines.topology import expand
from registry.spec import from_data
from registry.state import (
    Claim,
    Device,
    DeviceKind,
    Model,
    Node,
    NodeState,
    Phase,
    Pool,
    Snapshot,
    Worker,
    WorkerPlan,
)
from registry.traffic import Demand

DEVICE_GIB = 80
TURN_S = 0.5  # the controller's
DRAIN_MIN_S = 2.0  # until every gateway has seen that a worker takes nothing new
DEVICES_A_NODE = 8
BEFORE_S = 600.0  # the first requests, everyone was placed
LATER_S = 600.0  # for what is still there when the trace ends
OVERCOMMIT = 100.0
TTFT_S, TPOT_S = 10.0, 0.1

replace = msgspec.structs.replace


class Fleet(Protocol):
    switches: int  # how often somebody fell asleep
    moves: int  # how often somebody went to another device

    def serve(self, request: Request) -> None: ...

    def step(self, now: float) -> None: ...

    @property
    def is_idle(self) -> bool: ...


def replay(requests: Sequence[Request], fleet: Fleet) -> None:
    """Until everything is answered, or nobody will."""
    line = deque(requests)
    end_s = requests[-1].at + LATER_S
    step = 0
    while True:
        now = step * STEP_S
        while line and line[0].at <= now:
            fleet.serve(line.popleft())
        if now > end_s or (not line and fleet.is_idle):
            return
        fleet.step(now)
        step += 1


class Fixed:
    """Every model awake for ever: *places* are models by device."""

    switches = moves = 0

    def __init__(self, places: Sequence[Sequence[Served]]) -> None:
        self._devices = [{model.name: Engine(model) for model in some} for some in places]
        self._engines = {name: one for some in self._devices for name, one in some.items()}
        self._queues: dict[str, deque[Request]] = defaultdict(deque)

    @property
    def is_idle(self) -> bool:
        return not any(self._queues.values()) and not any(
            engine.in_flight for engine in self._engines.values()
        )

    def serve(self, request: Request) -> None:
        self._queues[request.model].append(request)

    def step(self, now: float) -> None:
        for name, queue in self._queues.items():
            while queue and self._engines[name].has_room:
                self._engines[name].take(queue.popleft())
        for some in self._devices:
            advance_device(some.values(), now)


def first_fit(models: Sequence[Served]) -> list[list[Served]]:
    """The largest first, each on the first device that has room for it awake."""
    places: list[list[Served]] = []
    for model in sorted(models, key=lambda model: -model.size.claim_gib):
        for some in places:
            if sum(one.size.claim_gib for one in some) + model.size.claim_gib <= DEVICE_GIB:
                some.append(model)
                break
        else:
            places.append([model])
    return places


class Sleeps(msgspec.Struct, frozen=True):
    """How workers sleep: *kept* bytes stay on the device; from their *stop* they start anew."""

    kept_bytes: int
    stop: bool

    def fall_s(self, model: Served) -> float:
        return 1.0 if self.stop else model.size.copy_s


LIGHTLY = Sleeps(KEPT_BYTES, stop=False)
STOPPED = Sleeps(0, stop=True)


class NoPlaceError(Exception):
    pass


class Pooled:
    """All models in one pool, placed by the scheduler and arranged by the controller's own rules.

    Raises NoPlaceError where a model finds no place at all.
    """

    def __init__(
        self,
        models: Sequence[Served],
        devices: int,
        *,
        sleeps: Sleeps,
        awake_min_s: float,
        ttft_s: float = TTFT_S,
        overcommit: float = OVERCOMMIT,
        device_gib: int = DEVICE_GIB,
    ) -> None:
        self._served = {model.name: model for model in models}
        self._sleeps = sleeps
        self._pool = Pool(name="tail", overcommit=overcommit, awake_min_s=awake_min_s)
        self._device_bytes = device_gib * GIB
        self._devices = tuple(_device(number, device_gib) for number in range(devices))
        self._models = tuple(_model(model, ttft_s) for model in models)
        self._workers: dict[str, Worker] = {}
        self._held: dict[str, int] = {}
        self._on: dict[str, str] = {}
        self._until: dict[str, float] = {}  # when who wakes or falls asleep is done with it
        self._idle_since: dict[str, float] = {}
        self._cold: set[str] = set()  # whose engine is not there, even if asleep it would be
        self.switches = self.moves = 0
        self._engines = {name: Engine(model) for name, model in self._served.items()}
        self._queues: dict[str, deque[Request]] = {name: deque() for name in self._served}
        self._asked_at: dict[str, float] = {}
        self._place(-BEFORE_S)
        self._turn_at = 0.0
        self.slept_at: dict[str, list[float]] = defaultdict(list)

    def _place(self, now: float) -> None:
        """Who has no place, as the controller does. Awake it starts, asleep it will once woken."""
        gangs = [
            gang
            for model in self._models
            if model.name not in self._workers
            for gang in expand(model)
        ]
        proposal = place_awake_or_asleep(self._snapshot(now), gangs, lambda plan, kind: "r", now)
        if proposal.refused:
            raise NoPlaceError(proposal.refused[0].sentence)
        for gang in proposal.placed:
            (worker,) = gang.workers
            name = worker.plan.model
            phase = Phase.ASLEEP if gang.asleep else Phase.WAKING
            self._cold.add(name)
            self._until[name] = now + self._served[name].size.start_s
            self._workers[name] = _worker(worker.plan, worker.node, phase, now)
            self._held[name] = worker.claims[0].memory_bytes
            self._on[name] = worker.claims[0].device_id

    @property
    def is_idle(self) -> bool:
        return not any(self._queues.values()) and not any(
            engine.in_flight for engine in self._engines.values()
        )

    def serve(self, request: Request) -> None:
        self._queues[request.model].append(request)
        self._asked_at[request.model] = request.at

    def step(self, now: float) -> None:
        self._go_on(now)
        if now >= self._turn_at:
            self._turn_at += TURN_S
            if any(self._queues.values()):  # else nobody wakes, and so nobody has to sleep
                self._turn(now)
        by_device: dict[str, list[Engine]] = defaultdict(list)
        for name, worker in self._workers.items():
            engine, queue = self._engines[name], self._queues[name]
            while queue and worker.phase is Phase.READY and engine.has_room:
                engine.take(queue.popleft())
            if engine.in_flight:
                by_device[self._on[name]].append(engine)
        for some in by_device.values():
            advance_device(some, now)

    def _go_on(self, now: float) -> None:
        """What has begun comes to its end."""
        for name, worker in self._workers.items():
            if worker.phase is Phase.FALLING_ASLEEP and not self._engines[name].in_flight:
                since = self._idle_since.setdefault(name, now)
                done_at = max(since, self._until[name]) + self._sleeps.fall_s(self._served[name])
                if now >= done_at:
                    del self._idle_since[name]
                    self._enter(name, Phase.ASLEEP)
                    self._held[name] = self._sleeps.kept_bytes
            elif worker.phase is Phase.WAKING and now >= self._until[name]:
                self._cold.discard(name)
                self._enter(name, Phase.READY, ready_at=now)

    def _turn(self, now: float) -> None:
        told = arrange(self._snapshot(now), now)
        for worker_id in told.wake:
            assert self._workers[worker_id].phase is Phase.ASLEEP
            self._enter(worker_id, Phase.WAKING)
            self._held[worker_id] = self._served[worker_id].size.claim_gib * GIB
            size = self._served[worker_id].size
            cold = self._sleeps.stop or worker_id in self._cold
            self._until[worker_id] = now + (size.start_s if cold else size.wake_s)
        for worker_id in told.sleep:
            assert self._workers[worker_id].phase is Phase.READY
            self._enter(worker_id, Phase.FALLING_ASLEEP)
            self._until[worker_id] = now + DRAIN_MIN_S
            self.switches += 1
            self.slept_at[worker_id].append(now)
        for worker_id in told.leave:
            assert self._workers[worker_id].phase is Phase.ASLEEP
            del self._workers[worker_id], self._held[worker_id], self._on[worker_id]
            self.moves += 1
        if told.leave:
            self._place(now)
        self._check()

    def _check(self) -> None:
        held: Counter[str] = Counter()
        for name, size in self._held.items():
            held[self._on[name]] += size
        assert all(size <= self._device_bytes for size in held.values()), "oversold"

    def _enter(self, name: str, phase: Phase, *, ready_at: float | None = None) -> None:
        worker = self._workers[name]
        ready_at = worker.ready_at if ready_at is None else ready_at
        self._workers[name] = replace(worker, phase=phase, ready_at=ready_at)

    def _snapshot(self, now: float) -> Snapshot:
        nodes = sorted({device.node for device in self._devices})
        return Snapshot(
            version=1,
            models=self._models,
            nodes=tuple(map(_node, nodes)),
            devices=self._devices,
            workers=tuple(self._workers.values()),
            ended=(),
            claims=tuple(
                Claim(worker_id=name, device_id=self._on[name], memory_bytes=size)
                for name, size in self._held.items()
            ),
            keys=(),
            pools=(self._pool,),
            demand=tuple(self._demand(now)),
        )

    def _demand(self, now: float) -> list[Demand]:
        return [
            Demand(
                at=now,
                gateway="g",
                model=name,
                queued=len(queue),
                oldest_at=queue[0].at if queue else 0.0,
                in_flight=self._engines[name].in_flight,
                asked_at=self._asked_at.get(name, 0.0),
            )
            for name, queue in self._queues.items()
            if name in self._asked_at
        ]


def _device(number: int, device_gib: int) -> Device:
    node, index = f"n{number // DEVICES_A_NODE}", number % DEVICES_A_NODE
    return Device(
        id=f"{node}/cuda{index}",
        node=node,
        index=index,
        kind=DeviceKind.CUDA,
        model="H100",
        memory_bytes=device_gib * GIB,
    )


def _node(name: str) -> Node:
    return Node(
        name=name,
        address="10.0.0.1",
        state=NodeState.READY,
        device_kind=DeviceKind.CUDA,
        runtimes=("r",),
        labels={},
        last_seen_at=0.0,
    )


def _model(served: Served, ttft_s: float) -> Model:
    topology = {"type": "aggregated", "memory": f"{served.size.claim_gib}GiB"}
    spec = {
        "name": served.name,
        "source": f"hf://weights/{served.name}",
        "pool": "tail",
        "slo": {"ttft_s": ttft_s, "tpot_s": TPOT_S},
        "variants": [{"engine": "vllm", "topology": topology}],
    }
    return Model(
        name=served.name,
        generation=1,
        revision=1,
        spec=from_data(spec),
        created_at=0.0,
        updated_at=0.0,
        deleted=False,
        condition="",
    )


def _worker(plan: WorkerPlan, node: str, phase: Phase, now: float) -> Worker:
    return Worker(
        id=plan.model,
        plan=plan,
        node=node,
        runtime="r",
        phase=phase,
        reason="",
        url="",
        token="",
        created_at=now,
        ready_at=None,
        ended_at=None,
    )
