"""KV that moves from prefill to decode: leases on one side, the read on the other.

The wire is one JSON line each way over TCP. What moves is the text state the prompt leads to, so a
decode that reads the wrong KV answers fluent nonsense, as a real one would.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import msgspec

from pipelines.engines.emulator.ask import Transfer

_LINE_BYTES_MAX = 2**20
BLOCK_TOKENS = 16


class KvError(Exception):
    """The KV could not be read."""


class _Lease(msgspec.Struct, kw_only=True):
    block_ids: list[list[int]]
    state: int
    expires_at: float


class _Read(msgspec.Struct, kw_only=True):
    engine_id: str
    request_id: str
    block_ids: list[list[int]]


class _ReadAnswer(msgspec.Struct, kw_only=True):
    state: int = 0
    error: str = ""


class Leases:
    """Prefill's side: each prompt's KV, kept until it is read once or its lease ends."""

    def __init__(self, *, lease_s: float, clock: Callable[[], float]) -> None:
        self.engine_id = str(uuid4())
        self.expired = 0
        self._lease_s = lease_s
        self._clock = clock
        self._leases: dict[str, _Lease] = {}  # by request id, oldest first
        self._next_block = 1

    @property
    def blocks(self) -> int:
        self._expire()
        return sum(len(lease.block_ids[0]) for lease in self._leases.values())

    def grant(self, *, state: int, tokens: int, host: str, port: int) -> dict[str, Any]:
        """Keeps the KV of a prompt; answers the kv_transfer_params that name it."""
        self._expire()
        request_id = uuid4().hex
        count = blocks_of(tokens)
        block_ids = [list(range(self._next_block, self._next_block + count))]
        self._next_block += count
        self._leases[request_id] = _Lease(
            block_ids=block_ids, state=state, expires_at=self._clock() + self._lease_s
        )
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": block_ids,
            "remote_engine_id": self.engine_id,
            "remote_request_id": request_id,
            "remote_host": host,
            "remote_port": port,
            "tp_size": 1,
            "dcp_size": 1,
            "pp_size": 1,
            "remote_num_tokens": tokens,
            "remote_blocks_expiry_time": None,
            "transfer_mode": "pull",
            "remote_prefill_cached_tokens": 0,
        }

    def take(self, read: _Read) -> int:
        """Raises KvError; on success the lease is gone."""
        self._expire()
        if read.engine_id != self.engine_id:
            raise KvError("another engine id: the worker that held this KV is gone")
        lease = self._leases.get(read.request_id)
        if lease is None:
            raise KvError("no such KV: it was read before, or its lease ended")
        if lease.block_ids != read.block_ids:
            raise KvError("these are not the blocks of that request")
        del self._leases[read.request_id]
        return lease.state

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection of the KV port."""
        try:
            line = await reader.readline()
            answer = _ReadAnswer(state=self.take(msgspec.json.decode(line, type=_Read)))
        except (KvError, msgspec.DecodeError) as error:
            answer = _ReadAnswer(error=str(error))
        except (OSError, ValueError):
            writer.close()
            return
        writer.write(msgspec.json.encode(answer) + b"\n")
        writer.close()

    def _expire(self) -> None:
        now = self._clock()
        for request_id, lease in list(self._leases.items()):
            if lease.expires_at > now:
                return
            del self._leases[request_id]
            self.expired += 1


def blocks_of(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)


async def read_remote(transfer: Transfer, *, timeout_s: float) -> int:
    """Decode's side: fetches the KV that *transfer* names. Raises KvError."""
    try:
        read = msgspec.convert(
            {
                "engine_id": transfer.remote_engine_id,
                "request_id": transfer.remote_request_id,
                "block_ids": transfer.remote_block_ids,
            },
            _Read,
        )
        async with asyncio.timeout(timeout_s):
            line = await _exchange(transfer, msgspec.json.encode(read) + b"\n")
        answer = msgspec.json.decode(line, type=_ReadAnswer)
    except (OSError, TimeoutError, ValueError) as error:
        raise KvError(f"cannot read KV: {type(error).__name__} {error}") from None
    if answer.error:
        raise KvError(answer.error)
    return answer.state


async def _exchange(transfer: Transfer, line: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(
        transfer.remote_host, transfer.remote_port, limit=_LINE_BYTES_MAX
    )
    try:
        writer.write(line)
        return await reader.readline()
    finally:
        writer.close()
