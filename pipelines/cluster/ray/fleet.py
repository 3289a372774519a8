"""The nodes as one: who answers, under which name, with what. Knows Ray only by its `Api`.

A node that is slow or dead holds up nobody: each call has a deadline, what a node needs before it
can be asked is done beside the turns, and what cannot be said of a node is left out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from pipelines.cluster.base import ClusterError, Observation, Sighting
from pipelines.cluster.logtail import LogPiece
from pipelines.cluster.ray.wire import Ask, Hello, Order, Reply
from registry.state import ENDED_PHASES, NodeReport

log = structlog.get_logger()

CALL_S = 5.0
IMPATIENT_S = 0.3  # for a node that did not answer the last time
SETUP_S = 60.0  # an agent or a keeper is a process that loads Python and us
START_SHOWN_S = 1.0
FIRST_LOOK_S = 15.0
_Result = TypeVar("_Result")
_Work = Callable[[], Coroutine[Any, Any, None]]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A node that Ray holds to be alive."""

    id: str
    address: str
    labels: dict[str, str]


class AgentGoneError(ClusterError):
    """The agent is no more: it must be made anew."""


class Api(Protocol):
    """What we need of Ray. Every call may raise ClusterError."""

    @property
    def here(self) -> str:
        """The id of the node that we are on."""

    async def members(self) -> tuple[Member, ...]: ...

    async def make_agent(self, node_id: str) -> None: ...

    async def end_agent(self, node_id: str) -> None: ...

    async def ask_agent(self, node_id: str, method: str, *arguments: Any) -> bytes: ...

    async def keepers(self) -> frozenset[str]:
        """Of which workers there are keepers."""

    async def keep(self, node_id: str, worker_id: str, order: bytes | None) -> bytes:
        """A keeper for the worker, which starts it by *order* or finds it running."""

    async def end_keeper(self, worker_id: str) -> None: ...


class Fleet:
    def __init__(self, api: Api, *, code: str) -> None:
        self._api = api
        self._code = code
        self._members: dict[str, Member] = {}
        self._names: dict[str, str] = {}  # node id → name, once its agent said it
        self._owners: dict[str, str] = {}  # name → the node that has it
        self._work: dict[str, asyncio.Task[Any]] = {}  # what is under way, by node or worker
        self._silent: set[str] = set()
        self._told: dict[str, str] = {}  # node id → what was last complained of

    async def inventory(self) -> tuple[NodeReport, ...]:
        await self._look(patience_s=START_SHOWN_S if self._names else FIRST_LOOK_S)
        reports = await self._ask_all("report", NodeReport)
        return tuple(
            msgspec.structs.replace(
                report, labels={**self._members[node_id].labels, **report.labels}
            )
            for node_id, report in reports.items()
        )

    async def observe(self) -> Sighting:
        await self._look()
        seen = await self._ask_all("observe", Sighting)
        await self._give_keepers(seen)
        return assemble(seen, here=self._api.here)

    async def start(self, order: Order) -> None:
        """Returns once it runs, or after a second: it goes on, and asked again it is not begun
        again. Raises ClusterError where it is known by then that it failed.
        """
        worker = order.worker
        node_id = self._id_of(worker.node)
        work = self._begin(worker.id, partial(self._keep, node_id, worker.id, order))
        done, _ = await asyncio.wait({work}, timeout=START_SHOWN_S)
        if done:
            await work

    async def stop(self, node: str, worker_id: str) -> None:
        await self._ask(self._id_of(node), "stop", worker_id)

    async def forget(self, node: str, worker_id: str) -> None:
        await self._ask(self._id_of(node), "forget", worker_id)
        await _within(CALL_S, self._api.end_keeper(worker_id))

    async def log(self, ask: Ask) -> LogPiece:
        if ask.node not in self._owners:
            await self._look(patience_s=SETUP_S)
        node_id = self._id_of(ask.node)
        data = await self._ask(node_id, "log", ask.worker_id, ask.position, ask.tail_lines)
        return msgspec.json.decode(data, type=LogPiece)

    async def _look(self, patience_s: float = START_SHOWN_S) -> None:
        """Who is there. A new node gets its agent beside us: only the look that finds it waits."""
        members = await _within(CALL_S, self._api.members())
        self._members = {member.id: member for member in members}
        self._names = {id_: name for id_, name in self._names.items() if id_ in self._members}
        self._silent &= self._members.keys()
        new = {
            self._begin(id_, partial(self._meet, id_))
            for id_ in self._members.keys() - self._names.keys()
            if id_ not in self._work or patience_s > START_SHOWN_S
        }
        if new:
            await asyncio.wait(new, timeout=patience_s)
        self._owners, twice = owners(self._names, self._owners)
        for id_ in twice:
            self._complain(
                id_,
                f"node name {self._names[id_]} is another node's: this one is left out until it is "
                "started with a MODELYARD_NODE_NAME of its own, or Ray has given the other one up",
            )

    async def _meet(self, node_id: str) -> None:
        """Its agent, of our own code. One of other code is ended and made anew; where the new one
        is of other code, too, the node has another Modelyard.
        """
        try:
            for _ in range(2):
                await _within(SETUP_S, self._api.make_agent(node_id))
                answer = await _within(SETUP_S, self._api.ask_agent(node_id, "hello"))
                hello = msgspec.json.decode(_value(answer), type=Hello)
                if hello.code == self._code:
                    self._names[node_id] = hello.name
                    self._told.pop(node_id, None)
                    return
                await _within(CALL_S, self._api.end_agent(node_id))
        except ClusterError as error:
            self._complain(node_id, str(error))
        else:
            self._complain(
                node_id, f"node {hello.name} has another version of Modelyard: install this one"
            )
        await asyncio.sleep(CALL_S)  # until when nothing new is tried

    async def _give_keepers(self, seen: Mapping[str, Sighting]) -> None:
        """Ray itself may have been started anew under workers that live on."""
        living = {
            worker.worker_id: node_id
            for node_id, sighting in seen.items()
            for worker in sighting.workers
            if worker.phase not in ENDED_PHASES
        }
        for worker_id in living.keys() - await _within(CALL_S, self._api.keepers()):
            node_id = living[worker_id]
            self._begin(worker_id, partial(self._adopt, node_id, worker_id))

    async def _keep(self, node_id: str, worker_id: str, order: Order | None) -> None:
        data = None if order is None else msgspec.json.encode(order)
        _value(await _within(SETUP_S, self._api.keep(node_id, worker_id, data)))

    async def _adopt(self, node_id: str, worker_id: str) -> None:
        try:
            await self._keep(node_id, worker_id, None)
        except ClusterError as error:
            self._complain(node_id, f"worker {worker_id} has no keeper: {error}")
            await asyncio.sleep(CALL_S)

    def _begin(self, name: str, work: _Work) -> asyncio.Task[None]:
        """*work* beside us, once at a time for a *name*."""
        task = self._work.get(name)
        if task is None:
            task = self._work[name] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._ended(name, done))
        return task

    def _ended(self, name: str, task: asyncio.Task[Any]) -> None:
        self._work.pop(name, None)
        if not task.cancelled() and (error := task.exception()):
            log.warning("work on the cluster failed", of=name, error=str(error))

    async def _ask_all(self, method: str, kind: type[_Result]) -> dict[str, _Result]:
        """The answers of those that answer, by node id."""
        names = {id_: name for name, id_ in self._owners.items()}
        ids = sorted(names)
        answers = await asyncio.gather(
            *(self._ask(id_, method) for id_ in ids), return_exceptions=True
        )
        found: dict[str, _Result] = {}
        for id_, answer in zip(ids, answers, strict=True):
            if isinstance(answer, ClusterError):
                self._complain(id_, f"node {names[id_]} does not answer: {answer}")
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found[id_] = msgspec.json.decode(answer, type=kind)
                self._told.pop(id_, None)
        return found

    async def _ask(self, node_id: str, method: str, *arguments: Any) -> bytes:
        patience_s = IMPATIENT_S if node_id in self._silent else CALL_S
        try:
            answer = await _within(patience_s, self._api.ask_agent(node_id, method, *arguments))
        except AgentGoneError:
            self._names.pop(node_id, None)
            raise
        except ClusterError:
            self._silent.add(node_id)
            raise
        self._silent.discard(node_id)
        return _value(answer)

    def _id_of(self, node: str) -> str:
        try:
            return self._owners[node]
        except KeyError:
            raise ClusterError(f"node {node} is not in the Ray cluster now") from None

    def _complain(self, node_id: str, text: str) -> None:
        if self._told.get(node_id) != text:
            self._told[node_id] = text
            log.warning("a node is left out", ray_node=node_id, why=text)


def owners(
    names: Mapping[str, str], before: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Which node has which name, and the nodes whose name is another's. Who had it keeps it."""
    held: dict[str, str] = {name: id_ for name, id_ in before.items() if names.get(id_) == name}
    for id_ in sorted(names):
        held.setdefault(names[id_], id_)
    return held, tuple(id_ for id_ in sorted(names) if held[names[id_]] != id_)


def assemble(seen: Mapping[str, Sighting], *, here: str) -> Sighting:
    """One sighting out of those of the nodes. KV events come over a socket in the file system, so
    those of other nodes than *here* do not exist for us.
    """
    workers: list[Observation] = []
    for node_id, sighting in seen.items():
        workers.extend(
            worker if node_id == here else msgspec.structs.replace(worker, events_url="")
            for worker in sighting.workers
        )
    nodes = frozenset[str]().union(*(sighting.nodes for sighting in seen.values()))
    return Sighting(nodes=nodes, workers=tuple(workers))


def _value(answer: bytes) -> bytes:
    reply = msgspec.json.decode(answer, type=Reply)
    if reply.error:
        raise ClusterError(reply.error)
    return bytes(reply.value)


async def _within(limit_s: float, work: Awaitable[_Result]) -> _Result:
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except TimeoutError:
        raise ClusterError(f"no answer within {limit_s:g} s") from None
