"""What is a case for fallback models, and what is not."""

import pytest

from gateway import errors
from gateway.fallback import reason_of
from registry.spec import FallbackOn

UNAVAILABLE = errors.UnavailableError("no", retry_after_s=1)


def of_worker(status, message="no", code=None):
    error = errors.ApiError(message, code=code)
    error.status = status
    return error


@pytest.mark.parametrize(
    ("error", "asked", "expected"),
    [
        (errors.QueueFullError("m", 1, 1), False, FallbackOn.NO_CAPACITY),
        (errors.QueueTimeoutError("m", 1, 1), False, FallbackOn.NO_CAPACITY),
        (errors.QueueTimeoutError("m", 1, 1), True, FallbackOn.NO_CAPACITY),
        (UNAVAILABLE, False, FallbackOn.NO_CAPACITY),
        (UNAVAILABLE, True, FallbackOn.ERROR),
        (of_worker(429), True, FallbackOn.NO_CAPACITY),
        (errors.BadAnswerError("no"), True, FallbackOn.ERROR),
        (errors.DeadlineError("no"), True, FallbackOn.ERROR),
        (errors.DeadlineError("no"), False, FallbackOn.NO_CAPACITY),
        (of_worker(400, "the model's context length is 8"), True, FallbackOn.CONTEXT_LENGTH),
        (of_worker(400, "no such tool"), True, None),
        (of_worker(400, "no", code="queue_full"), True, None),  # a worker's word, not ours
        (errors.InternalError("r"), True, None),
        (errors.ShutdownError(), True, None),
        (errors.LimitsUnavailableError(), False, None),
        (errors.RateLimitError("no", reason="in_flight", headers={}), False, None),
        (errors.OverLimitError("no", reason="tokens_per_minute"), False, None),
        (errors.BodyTooLargeError(1), False, None),
        (errors.UnknownModelError("m"), False, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_is_a_case_for_another_model(error, asked, expected):
    assert reason_of(error, asked=asked) is expected
