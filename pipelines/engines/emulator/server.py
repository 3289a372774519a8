"""The emulator's sockets: listens, serves, ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from pipelines.engines.emulator.engine import Emulator
from pipelines.engines.emulator.http import Connection
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.prefix_cache import PrefixCache
from pipelines.engines.emulator.publisher import Publisher


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A listening emulator. *engine* gives tests its counters and faults."""

    url: str
    kv_port: int
    engine: Emulator


@contextlib.asynccontextmanager
async def serve(options: Options, *, token: str = "") -> AsyncIterator[Running]:
    """Listens while the context lasts; on leaving, every connection is dropped."""
    loop = asyncio.get_running_loop()
    connections: set[Connection] = set()
    engine = Emulator(options, token=token, loop=loop)
    async with contextlib.AsyncExitStack() as stack:
        if options.kv_events_endpoint:
            publisher = stack.enter_context(Publisher(options.kv_events_endpoint))
            engine.prefixes = PrefixCache(options.kv_blocks, publisher.publish)
        kv = await asyncio.start_server(engine.leases.answer, options.host, options.kv_port)
        stack.callback(kv.close)
        engine.kv_port = kv.sockets[0].getsockname()[1]
        http = await loop.create_server(
            lambda: Connection(engine.handle, connections), options.host, options.port, backlog=2048
        )
        stack.callback(http.close)
        stack.push_async_callback(engine.aclose)
        stack.callback(_reset, connections)
        port = http.sockets[0].getsockname()[1]
        url = f"http://{options.host}:{port}"
        yield Running(url=url, kv_port=engine.kv_port, engine=engine)


def _reset(connections: set[Connection]) -> None:
    for connection in list(connections):
        connection.reset()
