"""The `ray` backend as the controller and the gateway see it. Nothing here imports Ray."""

from collections.abc import AsyncIterator
from importlib.util import find_spec

import msgspec

from pipelines.cluster.base import ClusterError, Sighting
from pipelines.cluster.logtail import LogPiece, stream_log
from pipelines.cluster.ray.link import Link
from pipelines.cluster.ray.wire import Ask
from registry.state import Device, NodeReport, Worker


class RayCluster:
    """Connects when it is first asked. Raises ClusterError where Ray is not installed."""

    def __init__(self, address: str) -> None:
        if find_spec("ray") is None:
            raise ClusterError("Ray is not installed here: run `pip install 'modelyard[ray]'`")
        self._link = Link(address)

    async def aclose(self) -> None:
        await self._link.aclose()

    async def inventory(self) -> tuple[NodeReport, ...]:
        value = await self._link.ask(Ask(id=0, what="inventory"))
        return msgspec.json.decode(value, type=tuple[NodeReport, ...])

    async def start(self, worker: Worker, devices: tuple[Device, ...]) -> None:
        await self._link.ask(Ask(id=0, what="start", worker=worker, devices=devices))

    async def stop(self, node: str, worker_id: str) -> None:
        await self._link.ask(Ask(id=0, what="stop", node=node, worker_id=worker_id))

    async def observe(self) -> Sighting:
        value = await self._link.ask(Ask(id=0, what="observe"))
        return msgspec.json.decode(value, type=Sighting)

    async def forget(self, node: str, worker_id: str) -> None:
        await self._link.ask(Ask(id=0, what="forget", node=node, worker_id=worker_id))

    async def logs(
        self, node: str, worker_id: str, *, tail_lines: int, follow: bool
    ) -> AsyncIterator[bytes]:
        async def read(position: int) -> LogPiece:
            ask = Ask(
                id=0,
                what="log",
                node=node,
                worker_id=worker_id,
                position=position,
                tail_lines=tail_lines,
            )
            return msgspec.json.decode(await self._link.ask(ask), type=LogPiece)

        async for chunk in stream_log(read, follow=follow):
            yield chunk
