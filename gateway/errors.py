"""Every refusal the inference listener makes, with what an error envelope needs.

ApiError
├── BadRequestError       400  the request itself; *param* names the field
├── OverLimitError        400  it asks for more than a limit ever allows
├── UnsupportedOperationError  400  the model's workers do not answer this
├── AuthenticationError   401  no key, or none that is good now
├── UnknownModelError     404  undeclared, or not this key's to see
├── UnknownRouteError     404
├── MethodError           405
├── BodyTimeoutError      408  the body did not arrive in time
├── BodyTooLargeError     413
├── QueueFullError        429  too many requests wait for this model already
├── RateLimitError        429  a limit of the key or of the model is reached
├── InternalError         500  our own fault; the log has the rest under the request id
├── BadAnswerError        502  a worker answered, but not usefully
├── UnavailableError      503  declared, but no worker can answer now
├── QueueTimeoutError     503  no worker had room in time
├── LimitsUnavailableError 503 whether a limit is reached cannot be told
├── ShutdownError         503  the gateway ends
└── DeadlineError         504  a worker took longer than the model's limits allow
"""

from collections.abc import Mapping
from typing import Any

from gateway.api.operations import BY_NAME, shown

_NO_HEADERS: Mapping[str, str] = {}
_QUOTA = "insufficient_quota"


class ApiError(Exception):
    """Root of what a client is told. *headers* go out with the answer."""

    status = 500
    type = "api_error"
    code: Any = None

    def __init__(
        self,
        message: str,
        *,
        param: Any = None,
        code: Any = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = type(self).code if code is None else code
        self.headers = headers


class BadRequestError(ApiError):
    status = 400
    type = "invalid_request_error"


class UnsupportedOperationError(ApiError):
    status = 400
    type = "invalid_request_error"
    code = "unsupported_operation"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="model")

    @classmethod
    def of_model(
        cls, name: str, path: str, answered: frozenset[str]
    ) -> "UnsupportedOperationError":
        return cls(f"The model {name!r} does not answer {path}. It answers {shown(answered)}.")


class OverLimitError(ApiError):
    """*reason* names the limit."""

    status = 400
    type = "invalid_request_error"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message, param="max_tokens", code=reason)
        self.reason = reason


class AuthenticationError(ApiError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"www-authenticate": "Bearer"})


class UnknownModelError(ApiError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The model {name[:80]!r} does not exist or this key may not use it. "
            "GET /v1/models lists the models it may.",
            param="model",
        )


class UnknownRouteError(ApiError):
    status = 404
    type = "invalid_request_error"
    code = "unknown_url"

    def __init__(self) -> None:
        super().__init__(
            f"No such route. Known are {shown(frozenset(BY_NAME))}, "
            "GET /v1/models, GET /v1/models/{model}, GET /healthz and GET /readyz."
        )


class MethodError(ApiError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"

    def __init__(self, allow: str) -> None:
        super().__init__(f"This route takes {allow} only.", headers={"allow": allow})


class BodyTimeoutError(ApiError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"The request body did not arrive within {timeout_s:g} s.",
            headers={"connection": "close"},
        )


class BodyTooLargeError(ApiError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The request body is over {limit_bytes} bytes.", headers={"connection": "close"}
        )


class QueueFullError(ApiError):
    status = 429
    type = "rate_limit_error"
    code = "queue_full"

    def __init__(self, model: str, queued: int, retry_after_s: int) -> None:
        super().__init__(
            f"The model {model!r} has all the requests it can work on, and {queued} wait already.",
            headers={"retry-after": str(retry_after_s)},
        )


class RateLimitError(ApiError):
    """*reason* names the limit; a budget that is spent has the names that OpenAI's clients know."""

    status = 429
    type = "rate_limit_error"

    def __init__(
        self, message: str, *, reason: str, headers: Mapping[str, str], is_quota: bool = False
    ) -> None:
        super().__init__(message, code=_QUOTA if is_quota else reason, headers=headers)
        self.reason = reason
        if is_quota:
            self.type = _QUOTA


class InternalError(ApiError):
    status = 500
    code = "internal_error"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The gateway failed on this request. Its log has it as {request_id}.")


class BadAnswerError(ApiError):
    status = 502
    code = "bad_worker_answer"


class UnavailableError(ApiError):
    status = 503
    type = "service_unavailable_error"
    code = "model_unavailable"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, headers={"retry-after": str(retry_after_s)})


class QueueTimeoutError(ApiError):
    status = 503
    type = "service_unavailable_error"
    code = "queue_timeout"

    def __init__(self, model: str, queued_s: float, retry_after_s: int) -> None:
        super().__init__(
            f"The model {model!r} had no room for this request within {queued_s:g} s.",
            headers={"retry-after": str(retry_after_s)},
        )


class WakeTimeoutError(ApiError):
    status = 503
    type = "service_unavailable_error"
    code = "wake_timeout"

    def __init__(self, model: str, wake_s: float, reason: str, retry_after_s: int) -> None:
        super().__init__(
            f"The model {model!r} was asleep and did not wake up within {wake_s:g} s"
            + (f": {reason}." if reason else "."),
            headers={"retry-after": str(retry_after_s)},
        )


class LimitsUnavailableError(ApiError):
    status = 503
    type = "service_unavailable_error"
    code = "limits_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "This key or model has limits, and the gateway cannot tell now whether they are "
            "reached. Its log says why.",
            headers={"retry-after": "1"},
        )


class ShutdownError(ApiError):
    status = 503
    type = "service_unavailable_error"
    code = "shutting_down"

    def __init__(self) -> None:
        super().__init__(
            "This gateway is being stopped and could not finish the request.",
            headers={"retry-after": "1"},
        )


class DeadlineError(ApiError):
    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"
