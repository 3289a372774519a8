"""Errors in the client's dialect: as an HTTP answer, as an SSE event, and read back from a worker.

OpenAI's envelope is ``{"error": {…}}``, in Responses' streams an event of type ``error``;
Anthropic's is ``{"type": "error", "error": {…}, "request_id": …}``.
"""

from typing import Any

import msgspec

from gateway.api.operations import Dialect
from gateway.errors import ApiError

_SERVER_ERROR = 500
# Anthropic's name for an error goes by the status; others are the first kind of their hundred.
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ErrorBody(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: Any
    code: Any


class Envelope(msgspec.Struct, frozen=True):
    error: ErrorBody


class AnthropicError(msgspec.Struct, frozen=True):
    type: str
    message: str


class AnthropicEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    type: str = "error"
    error: AnthropicError
    request_id: str


class ResponseErrorEvent(msgspec.Struct, frozen=True, kw_only=True):
    type: str = "error"
    code: Any
    message: str
    param: Any
    sequence_number: int


def render(error: ApiError, dialect: Dialect = Dialect.OPENAI, request_id: str = "") -> bytes:
    """The JSON body of an error answer."""
    if dialect is Dialect.ANTHROPIC:
        body = AnthropicError(_anthropic_type(error.status), error.message)
        return msgspec.json.encode(AnthropicEnvelope(error=body, request_id=request_id))
    return msgspec.json.encode(
        Envelope(ErrorBody(error.message, error.type, error.param, error.code))
    )


def render_event(
    error: ApiError,
    dialect: Dialect = Dialect.OPENAI,
    *,
    request_id: str = "",
    number: int = 0,
) -> bytes:
    """The same as one SSE event. A stream that ends with it has no end of its own. *number* is how
    many events came before it.
    """
    if dialect is Dialect.RESPONSES:
        body = msgspec.json.encode(
            ResponseErrorEvent(
                code=error.code,
                message=error.message,
                param=error.param,
                sequence_number=number,
            )
        )
    else:
        body = render(error, dialect, request_id)
    name = b"" if dialect is Dialect.OPENAI else b"event: error\n"
    return name + b"data: " + body + b"\n\n"


def _anthropic_type(status: int) -> str:
    kind = "api_error" if status >= _SERVER_ERROR else "invalid_request_error"
    return _ANTHROPIC_TYPES.get(status, kind)


# Behind it FastAPI tells where the engine's code lies.
_TRACE = '\n\n  File "'


class WorkerError(msgspec.Struct, frozen=True):
    """*param* and *code* are whatever the engine puts there."""

    message: str
    type: str = "invalid_request_error"
    param: Any = None
    code: Any = None


class _Nested(msgspec.Struct, frozen=True):
    """OpenAI's form, and Anthropic's."""

    error: WorkerError


class _Detail(msgspec.Struct, frozen=True):
    """FastAPI's own."""

    detail: str


def worker_error(body: bytes) -> WorkerError | None:
    """A worker's error answer in any of the forms that engines use; None if it is none."""
    for read in (_nested, _flat, _detail):
        try:
            error = read(body)
            return msgspec.structs.replace(error, message=error.message.partition(_TRACE)[0])
        except msgspec.ValidationError:
            continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
    return None


def _nested(body: bytes) -> WorkerError:
    return msgspec.json.decode(body, type=_Nested).error


def _flat(body: bytes) -> WorkerError:
    """As SGLang writes it: ``{"object": "error", "message": …}``."""
    return msgspec.json.decode(body, type=WorkerError)


def _detail(body: bytes) -> WorkerError:
    return WorkerError(msgspec.json.decode(body, type=_Detail).detail)
