"""The metrics of a gateway as text, of one process or of several put together.

The processes that serve inference publish theirs on Unix sockets, and the one that has the admin
listener adds them up: whoever scrapes sees one gateway.
"""

import asyncio
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import prometheus_client
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import LEAST, MOST

Exposition = Callable[[], Awaitable[bytes]]

_BYTES_MAX = 64 * 1024 * 1024
_GATHER_S_MAX = 2.0

_log = structlog.get_logger("gateway.exposition")


def of_registry(registry: CollectorRegistry) -> Exposition:
    """Of one process, our own."""

    async def read() -> bytes:
        return prometheus_client.generate_latest(registry)

    return read


def gathered(sockets: Sequence[Path]) -> Exposition:
    """The sum of what is published at *sockets*; one that does not answer is left out."""

    async def read() -> bytes:
        texts = await asyncio.gather(*(_read(socket) for socket in sockets))
        return merged([text for text in texts if text is not None])

    return read


@asynccontextmanager
async def published(registry: CollectorRegistry, socket: Path) -> AsyncIterator[None]:
    """Whoever connects to *socket* gets the exposition, and then the end."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(prometheus_client.generate_latest(registry))
        writer.close()
        await writer.wait_closed()

    _make_way(socket)
    server = await asyncio.start_unix_server(answer, socket)
    try:
        yield
    finally:
        server.close()
        _make_way(socket)


def _make_way(socket: Path) -> None:
    socket.parent.mkdir(mode=0o700, exist_ok=True)
    socket.unlink(missing_ok=True)


def merged(texts: Iterable[bytes]) -> bytes:
    """One exposition of several: samples of the same name and labels added up, but for those that
    all processes have of one thing.
    """
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text.decode()):
            families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            sums = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                if key in sums:
                    sums[key] = _together(sample.name)(sums[key], sample.value)
                else:
                    sums[key] = sample.value
    for name, family in families.items():
        for (sample_name, labels), value in values[name].items():
            family.add_sample(sample_name, dict(labels), value)
    return text_of(families.values())


def text_of(families: Iterable[Metric]) -> bytes:
    return prometheus_client.generate_latest(cast(CollectorRegistry, _Fixed(families)))


def _together(name: str) -> Callable[[float, float], float]:
    """How the values of two processes make one."""
    if name in LEAST or name.endswith("_created"):  # the oldest table, the earliest start
        return min
    return max if name in MOST else operator.add


class _Fixed:
    """What `generate_latest` asks of a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


async def _read(socket: Path) -> bytes | None:
    writer = None
    try:
        async with asyncio.timeout(_GATHER_S_MAX):
            reader, writer = await asyncio.open_unix_connection(socket, limit=_BYTES_MAX)
            return await reader.read(-1)
    except (OSError, TimeoutError) as error:
        _log.warning("a process does not tell its metrics", socket=socket.name, error=str(error))
        return None
    finally:
        if writer is not None:
            writer.close()
