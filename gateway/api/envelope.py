"""OpenAI's error envelope: as an HTTP answer, as an SSE event, and read back from a worker."""

from typing import Any

import msgspec

from gateway.errors import ApiError


class ErrorBody(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: Any
    code: Any


class Envelope(msgspec.Struct, frozen=True):
    error: ErrorBody


def render(error: ApiError) -> bytes:
    """The JSON body of an error answer."""
    return msgspec.json.encode(
        Envelope(ErrorBody(error.message, error.type, error.param, error.code))
    )


def render_event(error: ApiError) -> bytes:
    """The same as one SSE event. A stream that ends with it carries no ``[DONE]``."""
    return b"data: " + render(error) + b"\n\n"


class WorkerError(msgspec.Struct, frozen=True):
    """*param* and *code* are whatever the engine puts there."""

    message: str
    type: str = "invalid_request_error"
    param: Any = None
    code: Any = None


class _WorkerEnvelope(msgspec.Struct, frozen=True):
    error: WorkerError


def worker_error(body: bytes) -> WorkerError | None:
    """A worker's error answer; None if it isn't OpenAI's form."""
    try:
        return msgspec.json.decode(body, type=_WorkerEnvelope).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
