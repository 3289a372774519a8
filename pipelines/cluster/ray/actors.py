"""The actors: an agent on each node, a keeper for each worker. Both work through `Machine`.

They are plain classes here; the bridge makes Ray actors of them. Answers are `Reply` bytes.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import ray.actor
import ray.util

from pipelines.cluster.base import ClusterError
from pipelines.cluster.logtail import read_log
from pipelines.cluster.machine import Machine
from pipelines.cluster.ray.environment import named, node_environment
from pipelines.cluster.ray.wire import Hello, Order, Reply, code_digest
from registry.settings import SettingsError, load
from registry.state import NodeReport

_KEEPER_LOOK_S = 0.5


def _machine() -> Machine:
    """Of this node. Raises SettingsError where the environment of its `ray start` is wrong."""
    environ = node_environment()
    return Machine(
        load(named(environ)),
        address=ray.util.get_node_ip_address(),  # type: ignore[no-untyped-call]
        environ=environ,
        background=True,
    )


def _reply(work: Callable[[], Any]) -> bytes:
    """What went wrong is told in words: an exception would be pickled."""
    try:
        reply = Reply(value=msgspec.Raw(msgspec.json.encode(work())))
    except (ClusterError, SettingsError, OSError) as error:
        reply = Reply(error=str(error))
    return msgspec.json.encode(reply)


class NodeAgent:
    """Answers for its node. Its methods run in threads: one that waits holds up no other."""

    def __init__(self) -> None:
        self._code = code_digest()
        self._one_at_a_time = threading.Lock()  # two looks at once would end the same orphans
        # Its own: a driver may take seconds, and workers must be seen and stopped meanwhile.
        self._one_report_at_a_time = threading.Lock()
        self._reporting: Machine | None = None  # it remembers whom it saw on the devices

    def hello(self) -> bytes:
        return _reply(lambda: Hello(name=_machine().name, code=self._code))

    def report(self) -> bytes:
        def work() -> NodeReport:
            self._reporting = self._reporting or _machine()
            return self._reporting.report()

        with self._one_report_at_a_time:
            return _reply(work)

    def observe(self) -> bytes:
        return self._do(lambda machine: machine.observe())

    def stop(self, worker_id: str) -> bytes:
        return self._do(lambda machine: machine.stop(worker_id))

    def forget(self, worker_id: str) -> bytes:
        return self._do(lambda machine: machine.forget(worker_id))

    def log(self, worker_id: str, position: int, tail_lines: int) -> bytes:
        return _reply(lambda: read_log(_machine().logged(worker_id), position, tail_lines))

    def _do(self, work: Callable[[Machine], Any]) -> bytes:
        with self._one_at_a_time:
            return _reply(lambda: work(_machine()))


class WorkerKeeper:
    """A worker's supervisor in Ray's eyes: it starts the supervisor process, or finds the one
    that runs, and ends with it. The process outlives the keeper.
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id

    def start(self, order: bytes) -> bytes:
        def work() -> None:
            told = msgspec.json.decode(order, type=Order)
            _machine().start(told.worker, told.devices)

        return _reply(work)

    def hold(self) -> None:
        """Until the worker's supervisor has ended; then this actor ends."""
        machine = _machine()
        while machine.lives(self._worker_id):
            time.sleep(_KEEPER_LOOK_S)
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]
