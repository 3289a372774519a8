"""The playground: chat through the inference listener, passed through as it comes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from admin_world import ME, World, world

from gateway.admin import playground
from gateway.admin.playground import KEY_LIFE_S, Playground
from registry.errors import UnavailableError
from registry.keys import by_digest, digest
from registry.state import AccessRole, KeyKind

URL = "/admin/v1/playground"
CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "hello"}], "stream": True}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(playground, "_LOOK_S", 0.0)
    return Clock()


@pytest.fixture
async def admin(tmp_path: Path, clock: Clock):
    async with world(tmp_path, clock) as made:
        yield made


async def stream_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def reply(status: int, body: bytes = b"{}", **headers: str) -> httpx.Response:
    return httpx.Response(status, content=stream_of(body), headers=headers)


async def console_keys(admin: World):
    return [key for key in await admin.store.keys() if key.name == "console"]


async def test_an_answer_comes_through_with_who_gave_it(admin: World):
    chunks = (b'data: {"a":1}\n\n', b"data: [DONE]\n\n")

    async def answer(request: httpx.Request) -> httpx.Response:
        headers = {
            "content-type": "text/event-stream",
            "x-modelyard-workers": "w-1",
            "x-modelyard-mode": "disaggregated",
            "set-cookie": "a=b",
            "server": "s",
        }
        return httpx.Response(200, headers=headers, content=stream_of(*chunks))

    admin.inference.answer = answer
    async with admin.client() as client:
        got = await client.post(URL, json=CHAT, headers={"x-request-id": "mine"})
    assert (got.status_code, got.content) == (200, b"".join(chunks))
    assert got.headers["content-type"].startswith("text/event-stream")
    assert got.headers["x-modelyard-workers"] == "w-1"
    assert got.headers["x-modelyard-mode"] == "disaggregated"
    assert not {"set-cookie", "server"} & set(got.headers)
    (request,) = admin.inference.asked
    assert str(request.url) == "http://inference/v1/chat/completions"
    assert json.loads(request.content) == CHAT
    assert request.headers["x-request-id"] == got.headers["x-request-id"] == "mine"
    (key,) = await console_keys(admin)
    assert key.kind is KeyKind.INFERENCE
    secret = request.headers["authorization"].removeprefix("Bearer ")
    assert by_digest([key], KeyKind.INFERENCE).keys() == {digest(secret)}
    assert secret not in got.text + str(got.headers)


async def test_an_error_of_the_listener_is_the_answer(admin: World):
    async def answer(request: httpx.Request) -> httpx.Response:
        return reply(429, b'{"error":{"code":"x"}}', **{"retry-after": "7"})

    admin.inference.answer = answer
    async with admin.client() as client:
        got = await client.post(URL, json=CHAT)
    assert (got.status_code, got.json()) == (429, {"error": {"code": "x"}})
    assert got.headers["retry-after"] == "7"


async def test_a_listener_that_is_away_is_told_of(admin: World):
    async with admin.client() as client:
        got = await client.post(URL, json=CHAT)
    assert got.status_code == 503
    assert "does not answer" in got.json()["error"]["message"]


async def test_only_an_admin_may_spend(admin: World):
    _, secret = await admin.store.create_key(
        name="v", kind=KeyKind.ADMIN, role=AccessRole.VIEWER, by=ME
    )
    async with admin.client(secret) as client:
        assert (await client.post(URL, json=CHAT)).status_code == 403
    assert await console_keys(admin) == []


async def test_a_body_is_bounded(admin: World):
    async with admin.client() as client:
        assert (await client.post(URL, content=b" " * (4 * 2**20 + 1))).status_code == 413
    assert admin.inference.asked == []


async def test_the_key_is_made_once_and_replaced_before_it_ends(admin: World, clock: Clock):
    async def answer(request: httpx.Request) -> httpx.Response:
        return reply(200)

    admin.inference.answer = answer
    async with admin.client() as client:
        await asyncio.gather(*(client.post(URL, json=CHAT) for _ in range(5)))
        (first,) = await console_keys(admin)
        assert first.expires_at == clock.now + KEY_LIFE_S
        clock.now += KEY_LIFE_S / 2 + 1
        await client.post(URL, json=CHAT)
    old, new = await console_keys(admin)
    assert (old.id, old.revoked_at, new.revoked_at) == (first.id, clock.now, None)
    assert len({request.headers["authorization"] for request in admin.inference.asked}) == 2


async def test_a_key_that_the_listener_does_not_know_yet_is_waited_for(admin: World):
    answers = iter([401, 401, 200])

    async def answer(request: httpx.Request) -> httpx.Response:
        return reply(next(answers))

    admin.inference.answer = answer
    async with admin.client() as client:
        assert (await client.post(URL, json=CHAT)).status_code == 200
    assert len(await console_keys(admin)) == 1


async def test_a_key_that_somebody_revoked_is_replaced(admin: World, clock: Clock):
    revoked = set()

    async def answer(request: httpx.Request) -> httpx.Response:
        return reply(401 if request.headers["authorization"] in revoked else 200)

    admin.inference.answer = answer
    async with admin.client() as client:
        await client.post(URL, json=CHAT)
        revoked.add(admin.inference.asked[0].headers["authorization"])
        clock.now += 60
        assert (await client.post(URL, json=CHAT)).status_code == 200
    assert len(await console_keys(admin)) == 2


async def test_a_listener_that_knows_no_key_is_not_asked_for_ever(admin: World, clock: Clock):
    async def answer(request: httpx.Request) -> httpx.Response:
        return reply(401)

    admin.inference.answer = answer
    transport = httpx.MockTransport(admin.inference)
    async with httpx.AsyncClient(transport=transport, base_url="http://i") as client:
        with pytest.raises(UnavailableError, match="does not know the console's key"):
            await Playground(admin.store, client, clock).ask(b"{}", ME)


async def test_a_client_that_goes_before_the_answer_begins_ends_the_request(admin: World):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        raise AssertionError

    admin.inference.answer = answer
    gone = asyncio.Event()
    asking = asyncio.ensure_future(ask_until(admin, gone))
    await begun.wait()
    gone.set()
    await asyncio.wait_for(ended.wait(), 5)
    await asking


async def test_a_client_that_goes_in_the_middle_ends_the_stream(admin: World):
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"data: x\n\n"
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=endless())

    admin.inference.answer = answer
    gone = asyncio.Event()
    asking = asyncio.ensure_future(ask_until(admin, gone, on_body=gone.set))
    await asyncio.wait_for(ended.wait(), 5)
    await asking


async def ask_until(admin: World, gone: asyncio.Event, on_body=lambda: None) -> None:
    """A request whose client closes its connection once *gone* is set."""
    from admin_world import ADMIN_SECRET

    body = json.dumps(CHAT).encode()
    given = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        for message in given:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.body" and message.get("body"):
            on_body()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": URL,
        "raw_path": URL.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"authorization", f"Bearer {ADMIN_SECRET}".encode()),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("admin", 80),
    }
    with contextlib.suppress(OSError):
        await admin.app(scope, receive, send)
