"""What is asked of single nodes: starts, stops, forgetting. A slow node holds nobody else up.

Each call is a task with a deadline, one at a time for a worker (so a stop never overtakes a start)
and a few for a node. What fails is logged and not repeated here: the next turn sees what is still
to be done, and every call may be asked twice.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog

from pipelines.cluster.base import ClusterError

log = structlog.get_logger()

CALL_S_MAX = 20.0
CALLS_PER_NODE = 8


class Commands:
    """Calls to nodes, as tasks of the caller's group."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._running: dict[str, asyncio.Task[None]] = {}
        self._of_node: Counter[str] = Counter()
        self.failures: dict[str, str] = {}  # worker → why its last call failed

    def ask(
        self,
        node: str,
        worker_id: str,
        what: str,
        call: Callable[[], Awaitable[None]],
        *,
        timeout_s: float = CALL_S_MAX,
    ) -> None:
        """Makes the call, unless one for this worker is under way or its node is busy with others:
        then it is for the next turn.
        """
        if worker_id in self._running or self._of_node[node] >= CALLS_PER_NODE:
            return
        self._of_node[node] += 1
        run = self._run(node, worker_id, what, call, timeout_s)
        self._running[worker_id] = self._tasks.create_task(run)

    def busy(self, worker_id: str) -> bool:
        """Whether a call for the worker is under way."""
        return worker_id in self._running

    def keep_only(self, worker_ids: set[str]) -> None:
        """Forgets the failures of workers that are no more."""
        for gone in self.failures.keys() - worker_ids:
            del self.failures[gone]

    async def settled(self) -> None:
        """Once no call is under way."""
        while self._running:
            await asyncio.wait(tuple(self._running.values()))

    async def _run(
        self,
        node: str,
        worker_id: str,
        what: str,
        call: Callable[[], Awaitable[None]],
        timeout_s: float,
    ) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await call()
            self.failures.pop(worker_id, None)
        except TimeoutError:
            self._failed(node, worker_id, what, f"no answer within {timeout_s:.0f} s")
        except ClusterError as error:
            self._failed(node, worker_id, what, str(error))
        except Exception as error:  # one worker's trouble must not end the care for all
            log.exception("a call to a node failed", node=node, worker=worker_id, call=what)
            self.failures[worker_id] = f"{type(error).__name__} (see the controller's log)"
        finally:
            del self._running[worker_id]
            self._of_node[node] -= 1

    def _failed(self, node: str, worker_id: str, what: str, why: str) -> None:
        log.warning("a node did not do it", node=node, worker=worker_id, call=what, error=why)
        self.failures[worker_id] = why
