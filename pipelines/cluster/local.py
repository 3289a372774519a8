"""The `local` backend: this machine alone."""

import asyncio
from collections.abc import AsyncIterator

from pipelines.cluster.base import Sighting
from pipelines.cluster.logtail import LogPiece, read_log, stream_log
from pipelines.cluster.machine import Machine
from registry.settings import Settings
from registry.state import Device, NodeReport, Worker


class LocalCluster:
    def __init__(self, settings: Settings) -> None:
        self._machine = Machine(settings, address="127.0.0.1")

    async def aclose(self) -> None:
        """Nothing is held."""

    async def inventory(self) -> tuple[NodeReport, ...]:
        return (await asyncio.to_thread(self._machine.report),)

    async def start(self, worker: Worker, devices: tuple[Device, ...]) -> None:
        await asyncio.to_thread(self._machine.start, worker, devices)

    async def stop(self, node: str, worker_id: str) -> None:
        assert node == self._machine.name, node
        await asyncio.to_thread(self._machine.stop, worker_id)

    async def observe(self) -> Sighting:
        return await asyncio.to_thread(self._machine.observe)

    async def forget(self, node: str, worker_id: str) -> None:
        assert node == self._machine.name, node
        await asyncio.to_thread(self._machine.forget, worker_id)

    async def logs(
        self, node: str, worker_id: str, *, tail_lines: int, follow: bool
    ) -> AsyncIterator[bytes]:
        del node  # a log that was left here is worth reading, whatever the node is called now
        folder = self._machine.logged(worker_id)

        async def read(position: int) -> LogPiece:
            return await asyncio.to_thread(read_log, folder, position, tail_lines)

        async for chunk in stream_log(read, follow=follow):
            yield chunk
