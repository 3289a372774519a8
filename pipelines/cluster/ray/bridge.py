"""The one process that is connected to Ray: questions as lines on stdin, answers on stdout.

    python -m pipelines.cluster.ray.bridge <host:port or auto>

A process of its own, since Ray takes over signal handlers and output, and ends the process that is
connected to it when its head is gone for a minute. Its owner starts another one then.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.cluster.base import ClusterError
from pipelines.cluster.ray.actors import NodeAgent, WorkerKeeper
from pipelines.cluster.ray.fleet import AgentGoneError, Fleet, Member
from pipelines.cluster.ray.wire import LINE_BYTES_MAX, Answer, Ask, Order, code_digest
from registry.logs import configure_logs

_NAMESPACE = "modelyard"
_AGENT, _KEEPER = "agent-", "worker-"
_REACH_S = 5.0
_CONCURRENT_CALLS = 8


class RayApi:
    """Ray's calls that block run in threads; whoever calls has a deadline."""

    def __init__(self) -> None:
        self.here: str = ray.get_runtime_context().get_node_id()
        self._agents: dict[str, Any] = {}

    async def members(self) -> tuple[Member, ...]:
        nodes = await _call(ray.nodes)
        return tuple(
            Member(
                id=node["NodeID"],
                address=node["NodeManagerAddress"],
                labels={
                    str(name): str(value)
                    for name, value in (node.get("Labels") or {}).items()
                    if name != "ray.io/node-id"
                },
            )
            for node in nodes
            if node["Alive"]
        )

    async def make_agent(self, node_id: str) -> None:
        self._agents[node_id] = await _call(
            lambda: _actor(NodeAgent, _AGENT + node_id, node_id, max_restarts=-1).remote()
        )

    async def end_agent(self, node_id: str) -> None:
        if agent := self._agents.pop(node_id, None):
            await _call(lambda: ray.kill(agent, no_restart=True))

    async def ask_agent(self, node_id: str, method: str, *arguments: Any) -> bytes:
        agent = self._agents.get(node_id)
        if agent is None:
            raise ClusterError("it has no agent yet")
        return await _result(getattr(agent, method).remote(*arguments))

    async def keepers(self) -> frozenset[str]:
        names = await _call(ray.util.list_named_actors)
        return frozenset(name.removeprefix(_KEEPER) for name in names if name.startswith(_KEEPER))

    async def keep(self, node_id: str, worker_id: str, order: bytes | None) -> bytes:
        keeper = await _call(
            lambda: _actor(WorkerKeeper, _KEEPER + worker_id, node_id).remote(worker_id)
        )
        # The key is in the order: as an argument of the actor's making, Ray's head would keep it.
        answer = b"{}" if order is None else await _result(keeper.start.remote(order))
        keeper.hold.remote()
        return answer

    async def end_keeper(self, worker_id: str) -> None:
        if worker_id in await self.keepers():
            await _call(lambda: ray.kill(ray.get_actor(_KEEPER + worker_id), no_restart=True))


def _actor(kind: type, name: str, node_id: str, *, max_restarts: int = 0) -> Any:
    return ray.remote(kind).options(
        name=name,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        max_restarts=max_restarts,
        max_concurrency=_CONCURRENT_CALLS,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
    )


async def _call(work: Callable[[], Any]) -> Any:
    try:
        return await asyncio.to_thread(work)
    except (ray.exceptions.RayError, ValueError, RuntimeError) as error:
        raise ClusterError(_words(error)) from None


async def _result(reference: Any) -> bytes:
    try:
        answer = await asyncio.wrap_future(reference.future())
    except ray.exceptions.ActorDiedError as error:
        raise AgentGoneError(_words(error)) from None
    except ray.exceptions.RayError as error:
        raise ClusterError(_words(error)) from None
    assert isinstance(answer, bytes), type(answer)
    return answer


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"[:300]


class Bridge:
    def __init__(self, fleet: Fleet, output: BinaryIO) -> None:
        self._fleet = fleet
        self._output = output
        self._answering: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until stdin ends: our owner has gone, or needs us no more."""
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        while line := await reader.readline():
            task = asyncio.create_task(self._answer(msgspec.json.decode(line, type=Ask)))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, ask: Ask) -> None:
        try:
            value = msgspec.Raw(msgspec.json.encode(await self._do(ask)))
            answer = Answer(id=ask.id, value=value)
        except ClusterError as error:
            answer = Answer(id=ask.id, error=str(error))
        except Exception as error:  # noqa: BLE001 (whoever asked must not wait for nothing)
            answer = Answer(id=ask.id, error=f"{type(error).__name__}: {error}")
        send(self._output, answer)

    async def _do(self, ask: Ask) -> Any:
        if ask.what == "inventory":
            return await self._fleet.inventory()
        if ask.what == "observe":
            return await self._fleet.observe()
        if ask.what == "start":
            assert ask.worker is not None
            return await self._fleet.start(Order(worker=ask.worker, devices=ask.devices))
        if ask.what == "stop":
            return await self._fleet.stop(ask.node, ask.worker_id)
        if ask.what == "forget":
            return await self._fleet.forget(ask.node, ask.worker_id)
        return await self._fleet.log(ask)


def send(output: BinaryIO, answer: Answer) -> None:
    output.write(msgspec.json.encode(answer) + b"\n")
    output.flush()


def connect(address: str) -> None:
    """Raises ClusterError. Never starts a cluster: an address is always given."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
        except OSError as error:
            raise ClusterError(f"{error.strerror or error}") from None
    try:
        ray.init(
            address=address,
            namespace=_NAMESPACE,
            log_to_driver=False,
            configure_logging=False,
        )
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        raise ClusterError(_words(error)) from None


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever Ray prints is for the log
    configure_logs("info")
    try:
        connect(sys.argv[1])
    except ClusterError as error:
        send(answers, Answer(id=0, error=str(error)))
        return
    send(answers, Answer(id=0))
    asyncio.run(Bridge(Fleet(RayApi(), code=code_digest()), answers).run())
    os._exit(0)  # Ray's own goodbye may wait for a head that is gone


if __name__ == "__main__":
    main()
