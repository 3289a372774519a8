"""A fleet under fault: a gateway, the workers of one model, clients, and what they saw.

The gateway process and the emulators live on from test to test. What a gateway remembers of a
worker goes by the worker's id in the registry, so each test registers its workers anew.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
from fault_client import Answer, Call, chat, plain
from fault_history import End, check
from fault_processes import PACE, Emulator, GatewayProcess

from pipelines.topology import expand
from registry.spec import Role, from_data
from registry.state import (
    Device,
    DeviceClaim,
    DeviceKind,
    KeyKind,
    KeyLimits,
    NodeReport,
    Phase,
    PlannedGang,
    PlannedWorker,
    Principal,
    Priority,
)
from registry.store import Store
from registry.usage import UsageTotal

ME = Principal(actor="key_0", request_id="r-1", client_ip="127.0.0.1")
MEMORY_BYTES = 2**26
DEVICES = [
    Device(
        id=f"n/cpu{index}",
        node="n",
        index=index,
        kind=DeviceKind.CPU,
        model="slot",
        memory_bytes=MEMORY_BYTES,
    )
    for index in range(8)
]
NODE = NodeReport(
    name="n",
    address="127.0.0.1",
    device_kind=DeviceKind.CPU,
    runtimes=("builtin",),
    labels={},
    devices=tuple(DEVICES),
)
# Short, for a test's sake; each is far above what a busy machine needs.
LIMITS = {
    "connect_s": 1,
    "first_token_s": 5,
    "transfer_s": 1.5,
    "between_tokens_s": 1,
    "total_s": 20,
    "queued_s": 5,
    "retry_after_s": 1,
}
# With these a frozen worker is found out before any deadline passes, as with the default ones.
PATIENT = {"first_token_s": 30, "transfer_s": 15, "between_tokens_s": 15, "total_s": 40}


async def until(holds: Callable[[], bool], within_s: float, what: str = "") -> float:
    """Waits until *holds*, which may take a moment itself; the seconds it took."""
    began = time.monotonic()
    while not await asyncio.to_thread(holds):
        waited_s = time.monotonic() - began
        assert waited_s < within_s, f"not within {within_s} s: {what or holds}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


class Pool:
    """Emulators by role and pace. The dead are replaced when they are asked for."""

    def __init__(self):
        self._by_kind: dict[tuple, list[Emulator]] = {}

    def take(self, wanted: dict[Role, int], pace: dict) -> dict[Role, list[Emulator]]:
        taken, new = {}, []
        for role, count in wanted.items():
            kind = (role, *pace.items())
            alive = [each for each in self._by_kind.get(kind, []) if each.alive]
            missing = [Emulator(role, pace) for _ in range(count - len(alive))]
            new += missing
            self._by_kind[kind] = alive + missing
            taken[role] = self._by_kind[kind][:count]
        for emulator in new:
            emulator.wait_ready()
        return taken

    def end(self):
        for emulator in itertools.chain.from_iterable(self._by_kind.values()):
            if emulator.alive:
                emulator.kill()


class Ground(msgspec.Struct):
    """What all tests stand on."""

    home: Path
    database: str
    keys: dict[Priority, str]
    admin_secret: str
    gateway: GatewayProcess
    sockets: int  # the gateway's, without a client and without a worker
    pool: Pool


async def make_keys(store: Store) -> tuple[dict[Priority, str], str]:
    keys = {}
    for priority in Priority:
        _, keys[priority] = await store.create_key(
            name=priority, kind=KeyKind.INFERENCE, priority=priority, by=ME
        )
    _, admin = await store.create_key(name="admin", kind=KeyKind.ADMIN, by=ME)
    await store.report_nodes((NODE,))
    return keys, admin


class World:
    """The model's workers, and the calls made so far."""

    def __init__(self, ground: Ground, workers: dict[Role, list[Emulator]], store: Store):
        self.ground = ground
        self._store = store
        self.gateway = ground.gateway
        self.unified = workers.get(Role.UNIFIED, [])
        self.prefills = workers.get(Role.PREFILL, [])
        self.decodes = workers.get(Role.DECODE, [])
        self.workers = [*self.unified, *self.prefills, *self.decodes]
        self.calls: list[Call] = []
        self._before = {each: each.counts() for each in self.workers}

    def call(self, request, *, key="", by: GatewayProcess | None = None, **more) -> Call:
        """*key* is a secret; without one it is the one of normal priority."""
        gateway = by or self.gateway
        call = Call(gateway.url, request, key=key or self.key, **more)
        self.calls.append(call)
        return call

    async def ends(self, calls=None) -> Counter[End]:
        """How the calls ended (all by default), each checked."""
        calls = self.calls if calls is None else calls
        answers: list[Answer] = await asyncio.gather(*calls)
        return Counter(check(*pair) for pair in zip(calls, answers, strict=True))

    async def all_ok(self, calls=None) -> None:
        calls = self.calls if calls is None else calls
        answers = await asyncio.gather(*calls)
        bad = [
            (call.body, answer)
            for call, answer in zip(calls, answers, strict=True)
            if check(call, answer) is not End.OK
        ]
        assert not bad, f"{len(bad)} of {len(calls)}: {bad[:3]}"

    @property
    def key(self) -> str:
        return self.ground.keys[Priority.NORMAL]

    async def new_key(self, *others: GatewayProcess, **limits) -> tuple[str, str]:
        """The id and the secret of a key that nobody else uses; *others* know it, too."""
        key, secret = await self._store.create_key(
            name="own", kind=KeyKind.INFERENCE, limits=KeyLimits(**limits), by=ME
        )
        for gateway in (self.gateway, *others):
            await _seen(self._store, gateway)
        return key.id, secret

    async def charged(self, key_id: str, requests: int) -> UsageTotal:
        """What the registry has been told of so many requests of this key."""
        async with asyncio.timeout(5):
            while True:
                found = [each for each in await self._store.usage() if each.key_id == key_id]
                if sum(each.requests for each in found) >= requests:
                    return found[0]
                await asyncio.sleep(0.1)

    async def seen_by(self, gateway) -> None:
        """*gateway* routes by what the registry says now."""
        await _seen(self._store, gateway)

    def answerer(self, call: Call) -> Emulator:
        """The worker whose stream *call* reads."""
        (found,) = [each for each in self.workers if call.worker_line.endswith(each.worker_id)]
        return found

    def counted(self, name: str, workers=None) -> int:
        """By how much a count has grown in this world, over its workers that run."""
        return sum(
            each.counts().get(name, 0) - self._before[each].get(name, 0)
            for each in (self.workers if workers is None else workers)
            if each.alive and not each.stopped
        )

    @contextlib.asynccontextmanager
    async def load(self, clients: int = 16, **fields):
        """Clients that ask again and again meanwhile, in every form that can be carried on."""
        going = True

        async def ask_on(number: int) -> None:
            for turn in itertools.count(number):
                if not going:
                    return
                await self.call(mixed(turn, **fields))

        tasks = [asyncio.create_task(ask_on(number)) for number in range(clients)]
        try:
            yield
        finally:
            going = False
            await asyncio.gather(*tasks)

    async def quiet(self) -> None:
        """Nothing is under way, in the gateway or on a worker."""
        alive = [each for each in self.workers if each.alive]
        await until(lambda: not any(self.in_flight()), 3, "the gateway's in-flight counts are 0")
        await until(lambda: not any(each.busy for each in alive), 3, "no worker has a request")

    def in_flight(self) -> list[float]:
        return list(self.gateway.samples("modelyard_in_flight_requests").values())


def mixed(turn: int, **given):
    """Chat and completions, streamed or not, with usage or not, with a limit or not."""
    fields = {"max_tokens": 20 + turn % 17, "stream": turn % 3 > 0, **given}
    if fields["stream"] and turn % 2:
        fields["stream_options"] = {"include_usage": True}
    if turn % 4 < 2:
        return plain(**fields)
    if turn % 8 == 6 and "max_tokens" not in given:
        del fields["max_tokens"]  # it ends by itself
    return chat(**fields)


@contextlib.asynccontextmanager
async def a_world(
    ground: Ground,
    *,
    workers=2,
    pair=(),
    limits=(),
    policy="round_robin",
    pace=(),
    price=(),
    through=None,
):
    """*workers* that do both phases, or a *pair* of so many prefills and decodes. The gateways find
    them at what ``await through(url)`` makes of their addresses.
    """
    wanted = dict(zip((Role.PREFILL, Role.DECODE), pair, strict=True)) if pair else {}
    wanted = wanted or {Role.UNIFIED: workers}
    emulators = ground.pool.take(wanted, {**PACE, **dict(pace)})
    for emulator in itertools.chain.from_iterable(emulators.values()):
        emulator.heal()
    store = await Store.open(ground.database)
    world = World(ground, emulators, store)
    try:
        await _declare(store, wanted, {**LIMITS, **dict(limits)}, policy, dict(price))
        await _register(store, emulators, through)
        await _seen(store, ground.gateway)
        yield world
        await asyncio.gather(*world.calls, return_exceptions=True)
        for emulator in world.workers:
            if emulator.alive:
                emulator.heal()
        await world.quiet()
        await _end(store, ground.gateway)
        await until(
            lambda: ground.gateway.sockets <= ground.sockets, 3, "the gateway's sockets are closed"
        )
    finally:
        for call in world.calls:
            await call.leave()
        for emulator in world.workers:
            if emulator.alive and emulator.stopped:
                emulator.cont()
        await _end(store, ground.gateway)
        await store.aclose()


async def _declare(
    store: Store, wanted: dict[Role, int], limits: dict, policy: str, price: dict
) -> None:
    roles = {
        role.value: {"workers": count, "memory": str(MEMORY_BYTES)}
        for role, count in wanted.items()
    }
    if Role.UNIFIED in wanted:
        topology = {"type": "aggregated", **roles[Role.UNIFIED]}
    else:
        topology = {"type": "disaggregated", **roles}
    spec = {
        "name": "m",
        "source": "hf://org/m",
        "routing": {"policy": policy},
        "limits": limits,
        "price": price,
        "variants": [{"engine": "emulator", "topology": topology}],
    }
    await store.apply_model(from_data(spec), by=ME)


async def _register(store: Store, emulators: dict[Role, list[Emulator]], through) -> None:
    model = await store.model("m")
    plans = [plan for gang in expand(model) for plan in gang]
    planned = [
        PlannedWorker(
            plan=plan,
            node="n",
            runtime="builtin",
            claims=(DeviceClaim(device_id=device.id, memory_bytes=MEMORY_BYTES),),
        )
        for plan, device in zip(plans, DEVICES, strict=False)
    ]
    for worker in await store.commit_gang(PlannedGang(workers=tuple(planned))):
        emulator = emulators[worker.plan.role][worker.plan.ordinal]
        emulator.worker_id = worker.id
        url = await through(emulator.url) if through else emulator.url
        await store.set_worker(worker.id, Phase.READY, url=url)


async def _end(store: Store, gateway: GatewayProcess) -> None:
    live = await store.workers(model="m")
    for worker in live:
        await store.set_worker(worker.id, Phase.STOPPED)
    if live:
        await _seen(store, gateway)


async def _seen(store: Store, gateway: GatewayProcess) -> None:
    """The gateway routes by what the registry says now."""
    version = await store.version()
    await until(
        lambda: max(gateway.samples("modelyard_routing_table_version").values()) >= version,
        10,
        "the gateway's table is new",
    )
