"""Every error has OpenAI's form, and says what a client may know."""

import json

import pytest

from gateway import errors
from gateway.api.envelope import render, render_event, worker_error

EVERY = [
    errors.BadRequestError("m", param="n"),
    errors.UnsupportedOperationError.of_model("m", "/v1/score", frozenset({"messages"})),
    errors.OverLimitError("m", reason="tokens_per_minute"),
    errors.AuthenticationError("m"),
    errors.UnknownModelError("../m\r\n"),
    errors.UnknownRouteError(),
    errors.MethodError("POST"),
    errors.BodyTimeoutError(1.0),
    errors.BodyTooLargeError(7),
    errors.QueueFullError("m", 3, 5),
    errors.RateLimitError("m", reason="in_flight", headers={"retry-after": "1"}),
    errors.LimitsUnavailableError(),
    errors.QueueTimeoutError("m", 1.5, 5),
    errors.WakeTimeoutError("m", 300.0, "no room", 5),
    errors.ShutdownError(),
    errors.InternalError("id"),
    errors.BadAnswerError("m"),
    errors.UnavailableError("m", retry_after_s=5),
    errors.DeadlineError("m"),
]


def test_the_list_above_is_every_error():
    assert {type(error) for error in EVERY} == set(errors.ApiError.__subclasses__())


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_every_error_is_an_envelope_with_a_status_of_its_own_kind(error):
    body = json.loads(render(error))
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    assert 400 <= error.status < 600
    assert all("\n" not in value for value in error.headers.values())


def test_the_event_is_the_envelope_on_one_line():
    event = render_event(errors.DeadlineError("a\n\nb"))
    assert event.startswith(b'data: {"error":')
    assert event.count(b"\n") == 2
    assert event.endswith(b"\n\n")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"error":"x"}',
        b'{"error":{}}',
        b"\xff",
        b"[" * 9999,
        b'{"error":',
    ],
)
def test_what_is_no_envelope_of_a_worker_is_none(body):
    assert worker_error(body) is None


def test_where_the_engines_code_lies_is_not_told():
    """As SGLang 0.5.23 answers a bad field."""
    message = '1 validation error: list_type\n\n  File "/srv/http_server.py", line 1'
    error = worker_error(json.dumps({"error": {"message": message}}).encode())
    assert error is not None
    assert error.message == "1 validation error: list_type"


def test_a_workers_envelope_is_read_with_its_own_code():
    error = worker_error(b'{"error":{"message":"m","type":"t","param":null,"code":400}}')
    assert (error.message, error.type, error.param, error.code) == ("m", "t", None, 400)
