"""Requests that are refused: each with OpenAI's envelope, the right status and the field."""

import time

import pytest
from gateway_world import SECRET, a_declared, a_fleet, a_gateway, a_key, a_table

from registry.state import KeyKind

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
DEEP = b'{"model":"m","prompt":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


def media(url: str) -> bytes:
    return (
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url",'
        b'"image_url":{"url":"' + url.encode() + b'"}}]}]}'
    )


# Each row: its name, the body, the status and the param it is refused with.
BAD_BODIES = [
    ("empty", b"", 400, None),
    ("not JSON", b"hello", 400, None),
    ("cut short", b'{"model":"m"', 400, None),
    ("two values", b'{"model":"m"}{}', 400, None),
    ("trailing comma", b'{"model":"m",}', 400, None),
    ("a list", b'[{"model":"m"}]', 400, None),
    ("null", b"null", 400, None),
    ("a string", b'"m"', 400, None),
    ("broken inside", b'{"model":"m","messages":[{"role":tru}]}', 400, None),
    ("NaN", b'{"model":"m","temperature":NaN}', 400, None),
    ("control character", b'{"model":"m","prompt":"\x01"}', 400, None),
    ("byte order mark", b'\xef\xbb\xbf{"model":"m"}', 400, None),
    ("UTF-16", '{"model":"m"}'.encode("utf-16"), 400, None),
    ("invalid UTF-8 in a value", b'{"model":"m","prompt":"\xff"}', 400, None),
    ("invalid UTF-8 in a key", b'{"model":"m","\xff":1}', 400, None),
    ("lone surrogate", b'{"model":"m","prompt":"\\ud800"}', 400, None),
    ("depth 10,000", DEEP, 400, None),
    ("no model", b'{"prompt":"hi"}', 400, "model"),
    ("model null", b'{"model":null}', 400, "model"),
    ("model empty", b'{"model":""}', 400, "model"),
    ("model a number", b'{"model":7}', 400, "model"),
    ("model a list", b'{"model":["m"]}', 400, "model"),
    ("model a path", b'{"model":"../m"}', 404, "model"),
    ("model with CRLF", b'{"model":"m\\r\\nx-evil: 1"}', 404, "model"),
    ("model right to left", '{"model":"\u202em"}'.encode(), 404, "model"),
    ("model with NUL", b'{"model":"m\\u0000"}', 404, "model"),
    ("model unknown", b'{"model":"gpt-4"}', 404, "model"),
    ("model's case", b'{"model":"M"}', 404, "model"),
    ("model very long", b'{"model":"' + b"m" * 10_000 + b'"}', 404, "model"),
    ("model twice, the last counts", b'{"model":"m","model":"x"}', 404, "model"),
    ("stream a string", b'{"model":"m","stream":"true"}', 400, "stream"),
    ("stream a number", b'{"model":"m","stream":1}', 400, "stream"),
    ("stream_options a list", b'{"model":"m","stream_options":[]}', 400, "stream_options"),
    (
        "include_usage a string",
        b'{"model":"m","stream":true,"stream_options":{"include_usage":"x"}}',
        400,
        "stream_options",
    ),
    ("max_tokens negative", b'{"model":"m","max_tokens":-1}', 400, "max_tokens"),
    ("max_tokens zero", b'{"model":"m","max_tokens":0}', 400, "max_tokens"),
    ("max_tokens 2^63", b'{"model":"m","max_tokens":9223372036854775808}', 400, "max_tokens"),
    ("max_tokens a string", b'{"model":"m","max_tokens":"9"}', 400, "max_tokens"),
    ("max_tokens 1e999", b'{"model":"m","max_tokens":1e999}', 400, "max_tokens"),
    (
        "max_completion_tokens negative",
        b'{"model":"m","max_completion_tokens":-1}',
        400,
        "max_completion_tokens",
    ),
    ("n zero", b'{"model":"m","n":0}', 400, "n"),
    ("n huge", b'{"model":"m","n":100000}', 400, "n"),
    ("best_of huge", b'{"model":"m","best_of":100000}', 400, "best_of"),
    (
        "kv_transfer_params",
        b'{"model":"m","kv_transfer_params":{"remote_host":"10.0.0.1"}}',
        400,
        "kv_transfer_params",
    ),
    ("kv_transfer_params null", b'{"model":"m","kv_transfer_params":null}', 400, None),
    (
        "kv_transfer_params escaped",
        b'{"model":"m","kv_\\u0074ransfer_params":{}}',
        400,
        "kv_transfer_params",
    ),
    (
        "kv_transfer_params inside",
        b'{"model":"m","vllm_xargs":{"kv_transfer_params":{}}}',
        400,
        "kv_transfer_params",
    ),
    ("extra_body", b'{"model":"m","extra_body":{"api_base":"http://x"}}', 400, "api_base"),
    ("bootstrap_host", b'{"model":"m","bootstrap_host":"x"}', 400, "bootstrap_host"),
    ("bootstrap_port", b'{"model":"m","bootstrap_port":1}', 400, "bootstrap_port"),
    ("bootstrap_room", b'{"model":"m","bootstrap_room":1}', 400, "bootstrap_room"),
    ("api_base", b'{"model":"m","api_base":"http://10.0.0.1"}', 400, "api_base"),
    ("data_parallel_rank", b'{"model":"m","data_parallel_rank":0}', 400, "data_parallel_rank"),
    ("image from metadata", media("http://169.254.169.254/"), 400, "messages"),
    ("image from a file", media("file:///etc/passwd"), 400, "messages"),
    ("image behind an escape", media("http://x").replace(b"_url", b"\\u005furl"), 400, "messages"),
    ("over the model's limit", b'{"model":"small","prompt":"' + b"x" * 2000 + b'"}', 413, None),
    ("over every limit", b'{"model":"m","prompt":"' + b"x" * 70_000 + b'"}', 413, None),
]


@pytest.fixture
async def gateway():
    small = a_declared("small", limits={"body_bytes": 1024})
    async with a_gateway(model=a_declared(limits={"body_bytes": 65_536})) as gateway:
        models = [a_declared(limits={"body_bytes": 65_536}), small]
        fleet = [
            worker
            for model in models
            for worker in a_fleet(model, unified=[gateway.workers[0].url])
        ]
        keys = [
            a_key(),
            a_key("mk-revoked-secret", revoked_at=1.0),
            a_key("mk-expired-secret", expires_at=time.time() - 1),
            a_key("mka-admin-secret", kind=KeyKind.ADMIN),
            a_key("mk-later-secret", expires_at=time.time() + 60),
        ]
        gateway.plane.table = a_table(models=models, workers=fleet, keys=keys)
        yield gateway


def assert_envelope(answer, status, param=None):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    ("body", "status", "param"), [row[1:] for row in BAD_BODIES], ids=[row[0] for row in BAD_BODIES]
)
async def test_a_bad_body_is_refused_and_reaches_no_worker(gateway, body, status, param):
    for path in (CHAT, COMPLETIONS):
        answer = await gateway.client.post(path, content=body)
        assert_envelope(answer, status, param)
    assert gateway.workers[0].calls == []
    assert await gateway.usage() == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m"}',  # what else a request needs is the engine's to say
        b'{"model":"m","messages":"x"}',
        b' {"model" : "m"} \n',
        b'{"model":"m","stream":null,"stream_options":null,"max_tokens":null,"n":null}',
        '{"model":"m","prompt":"héllo 🎈"}'.encode(),
        media("data:image/png;base64,AAAA"),
        b'{"model":"m","messages":[{"content":"say \\"image_url\\" http://x"}]}',
        b'{"model":"m","prompt":' + b"[" * 100 + b"]" * 100 + b"}",
    ],
)
async def test_a_body_we_need_not_understand_goes_on(gateway, body):
    answer = await gateway.client.post(
        COMPLETIONS, content=body, headers={"content-type": "text/plain"}
    )
    assert answer.status_code == 200
    assert len(gateway.workers[0].calls) == 1


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        f"Basic {SECRET}",
        SECRET,
        "Bearer mk-wrong-secret",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET} {SECRET}",
        "Bearer mk-revoked-secret",
        "Bearer mk-expired-secret",
        "Bearer mka-admin-secret",
        "Bearer worker-token",
        "Bearer " + "x" * 10_000,
        "Bearer \xe9",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_a_good_key_nothing_is_served(gateway, authorization, method):
    path = "/v1/models" if method == "GET" else COMPLETIONS
    answer = await gateway.client.request(
        method,
        path,
        content=b'{"model":"m"}' if method == "POST" else None,
        headers={"authorization": authorization.encode("latin-1")},
    )
    assert_envelope(answer, 401)
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert gateway.workers[0].calls == []


async def test_a_key_is_good_until_it_expires(gateway):
    headers = {"authorization": "bearer mk-later-secret"}
    assert (await gateway.client.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", COMPLETIONS, "POST"),
        ("PUT", CHAT, "POST"),
        ("OPTIONS", CHAT, "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/m", "GET"),
        ("POST", "/healthz", "GET"),
        ("POST", "/readyz", "GET"),
    ],
)
async def test_a_wrong_method_says_which_is_right(gateway, method, path, allow):
    answer = await gateway.client.request(method, path)
    assert_envelope(answer, 405)
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/completions/",
        "/v1/chat/completions/x",
        "/metrics",
        "/invocations",
        "/pause",
        "/sleep",
        "/update_weights",
        "/v1/load_lora_adapter",
        "/openapi.json",
        "/docs",
        "/health",
        "//v1/completions",
        "/V1/completions",
        "/v1/%2e%2e/metrics",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_any_other_path_is_unknown(gateway, path, method):
    answer = await gateway.client.request(method, gateway.url + path)
    assert_envelope(answer, 404)
    assert gateway.workers[0].calls == []


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/models/../m", "/v1/models/%2e%2e%2fm"])
async def test_a_model_path_that_names_none_is_a_404(gateway, path):
    answer = await gateway.raw(
        f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\n"
        "connection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"code":"model_not_found"' in answer


async def test_a_body_without_a_declared_length_is_bounded_too(gateway):
    answer = await gateway.raw(
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
        + SECRET.encode()
        + b"\r\ntransfer-encoding: chunked\r\n\r\n"
        + (b"2000\r\n" + b" " * 0x2000 + b"\r\n") * 9
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in answer


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", 'x"y', "a/b"])
async def test_a_request_id_that_could_not_be_logged_is_replaced(gateway, given):
    headers = {"x-request-id": given.encode("latin-1")}
    answer = await gateway.client.get("/healthz", headers=headers)
    assert len(answer.headers["x-request-id"]) == 32


async def test_an_error_of_our_own_tells_only_the_request_id(gateway, monkeypatch):
    def break_down(*_args, **_more):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(gateway.plane.router, "route", break_down)
    answer = await gateway.post()
    assert_envelope(answer, 500)
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert "secret detail" not in answer.text


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 13\r\ncontent-length: 14\r\n",
        b"content-length: 13\r\ntransfer-encoding: chunked\r\n",
        b"content-length: +13\r\n",
        b"content-length: 0x0d\r\n",
        b"content-length: 13\r\nx: a\r\n obs: fold\r\n",
    ],
)
async def test_ambiguous_framing_reaches_no_worker(gateway, head):
    answer = await gateway.raw(
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
        + SECRET.encode()
        + b"\r\n"
        + head
        + b'\r\n{"model":"m"}'
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert gateway.workers[0].calls == []
