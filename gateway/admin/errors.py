"""Every error of the admin API in one envelope: ``{"error": {"code", "message", "field"}}``.

ApiError
├── BadRequestError    400  the request itself is malformed
├── ForbiddenError     403  who asks may not
├── CsrfError          403  a browser asks, and not from our page
├── PreconditionError  412  If-Match or If-None-Match does not hold
└── TooManyError       429  a bound of this process is reached

The registry's own errors map by type; whatever is not known here is a 500 that tells the client
nothing but the request's id.
"""

import math
import re
import uuid

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.status_codes import (
    HTTP_401_UNAUTHORIZED,
    HTTP_404_NOT_FOUND,
    HTTP_500_INTERNAL_SERVER_ERROR,
)
from litestar.types import Scope

from registry.errors import (
    ConflictError,
    NotFoundError,
    PlanConflictError,
    SpecError,
    UnavailableError,
)

_log = structlog.get_logger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CODES = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}
_REGISTRY: tuple[tuple[type[Exception], int, str], ...] = (
    (SpecError, 422, "invalid"),
    (NotFoundError, 404, "not_found"),
    (PlanConflictError, 409, "conflict"),
    (ConflictError, 409, "conflict"),
    (UnavailableError, 503, "unavailable"),
)


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """*code* is for programs, *message* for people, *field* the path of the offending value."""

    code: str
    message: str
    field: str


class ErrorView(msgspec.Struct, frozen=True, kw_only=True):
    error: ErrorBody


class ApiError(Exception):
    """A refusal that the API itself decides on."""

    status = 400
    code = "bad_request"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class BadRequestError(ApiError):
    pass


class ForbiddenError(ApiError):
    status = 403
    code = "forbidden"


class CsrfError(ApiError):
    status = 403
    code = "csrf"


class PreconditionError(ApiError):
    status = 412
    code = "precondition_failed"


class TooManyError(ApiError):
    status = 429
    code = "too_many"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def request_id(scope: Scope) -> str:
    """The client's id where it is a harmless one, else a fresh one; the same all through a
    request, for unknown paths too, which no middleware sees.
    """
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        state["request_id"] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    return str(state["request_id"])


def answer_error(request: Request, error: Exception) -> Response[ErrorView]:  # type: ignore[type-arg]
    """The app's one exception handler."""
    status, body = _describe(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTP_401_UNAUTHORIZED else {}
    if isinstance(error, HTTPException) and error.headers:
        headers.update({k: v for k, v in error.headers.items() if k.lower() == "allow"})
    if isinstance(error, TooManyError) and error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if body is None:
        _log.error("admin request failed", request_id=request_id(request.scope), exc_info=error)
        message = f"internal error; look for request id {request_id(request.scope)} in the log"
        body = ErrorBody(code="internal", message=message, field="")
    return Response(
        ErrorView(error=body), status_code=status, headers=headers, media_type="application/json"
    )


def _describe(error: Exception) -> tuple[int, ErrorBody | None]:
    if isinstance(error, ApiError):
        return error.status, _body(error.code, error.message, error.field)
    for kind, status, code in _REGISTRY:
        if isinstance(error, kind):
            return status, _body(code, str(error), getattr(error, "field", ""))
    if isinstance(error, HTTPException) and error.status_code < HTTP_500_INTERNAL_SERVER_ERROR:
        code = _CODES.get(error.status_code, "refused")
        return error.status_code, _body(code, *_http_detail(error))
    return HTTP_500_INTERNAL_SERVER_ERROR, None


def _body(code: str, message: str, field: str = "") -> ErrorBody:
    return ErrorBody(code=code, message=message, field=field)


def _http_detail(error: HTTPException) -> tuple[str, str]:
    """Litestar's message and, where a query parameter is at fault, that parameter's name."""
    extra = error.extra
    if isinstance(extra, list) and extra and isinstance(extra[0], dict) and "key" in extra[0]:
        name = str(extra[0]["key"]).rstrip("_")  # Python's own words, as `from`, have one there
        return f"{name}: {extra[0].get('message', error.detail)}", name
    if error.status_code == HTTP_404_NOT_FOUND:
        return "the admin API has nothing at this path", ""
    return error.detail, ""
