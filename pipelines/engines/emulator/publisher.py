"""KV events over ZeroMQ, in vLLM's frames: topic, number of the batch, batch."""

import time
from typing import Self

import msgspec

from pipelines.engines.emulator.prefix_cache import Event

_NUMBER_BYTES = 8


class _Batch(msgspec.Struct, array_like=True, frozen=True):
    ts: float
    events: list[Event]
    data_parallel_rank: int = 0


class Publisher:
    """Nobody is waited for: what a subscriber has no room for is dropped."""

    def __init__(self, endpoint: str) -> None:
        """Raises OSError if *endpoint* cannot be bound."""
        import zmq

        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._number = 0
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, f"{endpoint}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, events: list[Event]) -> None:
        batch = msgspec.msgpack.encode(_Batch(ts=time.time(), events=events))
        self._socket.send_multipart([b"", self._number.to_bytes(_NUMBER_BYTES, "big"), batch])
        self._number += 1

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()
