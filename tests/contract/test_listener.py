"""The listener on real sockets, on both event loops: deadlines, resets, drains and limits."""

import asyncio
import contextlib
import inspect
import socket
import struct

import pytest
import structlog
import uvloop

from gateway.listener import ClientGoneError, Listener

GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_both_loops(test):
    """Makes a test function of a coroutine function."""

    def run(new_loop, **arguments):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**arguments))

    new_loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = inspect.Signature([*inspect.signature(test).parameters.values(), new_loop])
    return pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)(run)


async def echo(request):
    body = b""
    while part := await request.read():
        body += part
    request.respond(200, b"", request.path.encode() + body)


@contextlib.asynccontextmanager
async def a_listener(handler=echo, **options):
    """A listener that must leave nothing behind."""
    before = asyncio.all_tasks()
    listener = Listener(handler, **options)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    listener.address = sock.getsockname()
    await listener.listen(sock)
    try:
        yield listener
    finally:
        async with asyncio.timeout(5):
            await listener.aclose()
        assert listener.connections == 0
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before | {asyncio.current_task()}


@contextlib.asynccontextmanager
async def a_client(listener, data=b"", **options):
    reader, writer = await asyncio.open_connection(*listener.address, **options)
    writer.write(data)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def all_of(reader):
    return await asyncio.wait_for(reader.read(), 5)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@on_both_loops
async def test_requests_on_one_connection():
    async with a_listener() as listener, a_client(listener) as (reader, writer):
        for size in (0, 1, 1_000_000):
            writer.write(POST % size + b"x" * size)
            answer = await reader.readuntil(b"/a")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
            assert await reader.readexactly(size) == b"x" * size


@on_both_loops
async def test_pipelined_requests_with_bodies_larger_than_every_buffer():
    sizes = (1, 700_000, 0, 400_000, 5)
    async with a_listener() as listener, a_client(listener) as (reader, writer):
        writer.write(b"".join(POST % size + b"%d" % (size % 7) * size for size in sizes))
        for size in sizes:
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n/a"), 5)
            assert await reader.readexactly(size) == b"%d" % (size % 7) * size


@on_both_loops
async def test_a_head_that_does_not_come_is_a_408_and_silence_is_closed():
    async with (
        a_listener(head_s=0.15) as listener,
        a_client(listener, GET[:-2]) as (reader, writer),
        a_client(listener) as (silent, _),
        a_client(listener, GET + GET[:9]) as (second, _),
    ):
        for byte in b"a: b\r\nc: d":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        assert (await all_of(reader)).startswith(b"HTTP/1.1 408 ")
        assert await all_of(silent) == b""
        answers = await all_of(second)
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in answers


@on_both_loops
async def test_an_idle_connection_is_closed():
    async with (
        a_listener(idle_s=0.1) as listener,
        a_client(listener, GET) as (reader, _),
    ):
        assert (await all_of(reader)).endswith(b"/a")


@on_both_loops
async def test_an_early_answer_is_not_lost_to_a_reset():
    async def refuse(request):
        request.respond(413, b"", b"too large")

    async with a_listener(refuse) as listener:
        with socket.create_connection(listener.address) as client:
            client.settimeout(5)

            def run():
                client.sendall(POST % 30_000_000)
                client.sendall(b"x" * 30_000_000)  # a client that writes all before it reads
                answer = b""
                while part := client.recv(65536):
                    answer += part
                return answer

            answer = await asyncio.to_thread(run)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b"too large")


@on_both_loops
async def test_a_body_that_never_ends_does_not_hold_its_connection():
    async def refuse(request):
        request.respond(413, b"", b"too large")

    async with (
        a_listener(refuse, linger_s=0.2) as listener,
        a_client(listener, POST % 10**9) as (reader, writer),
    ):
        assert (await all_of(reader)).endswith(b"too large")
        with contextlib.suppress(ConnectionError):
            while listener.connections:
                writer.write(b"x" * 1000)
                await writer.drain()
                await asyncio.sleep(0.01)


@on_both_loops
async def test_an_answer_nobody_reads_ends_and_one_read_slowly_does_not():
    size = 12_000_000

    async def much(request):
        request.respond(200, b"", b"x" * size)

    request = GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    async with (
        a_listener(much, send_s=0.2) as listener,
        a_client(listener, request, limit=1024),
        a_client(listener, request, limit=1024) as (slow, _),
    ):
        received = 0
        while part := await slow.read(size // 16):
            received += len(part)
            if received < size // 2:
                await asyncio.sleep(0.02)
        assert received > size
        await until(lambda: listener.connections == 0)


@on_both_loops
async def test_pressure_is_told_and_taken_back():
    told = []
    begun = asyncio.Event()

    async def pour(request):
        request.on_pressure = told.append
        request.begin(200, b"")
        while not request.paused:
            request.write(b"x" * 65536)
        begun.set()
        while request.paused:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        request.end()

    async with a_listener(pour) as listener, a_client(listener, GET, limit=1024) as (reader, _):
        await begun.wait()
        assert told == [True]
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        while not told[1:]:
            await reader.read(1_000_000)
        assert told == [True, False]


@pytest.mark.parametrize("leave", ["close", "reset", "half"])
@pytest.mark.parametrize("data", [GET, POST % 10 + b"hi", GET + GET], ids=["answer", "body", "two"])
@on_both_loops
async def test_a_client_that_leaves_is_told_of_once(leave, data):
    gone, calls = [], []

    async def wait(request):
        calls.append(request)
        request.on_gone = lambda: gone.append(1)
        with contextlib.suppress(ClientGoneError):
            while await request.read():
                pass
        while not gone:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async with a_listener(wait) as listener, a_client(listener, data) as (_, writer):
        await until(lambda: calls)
        if leave == "half":
            writer.write_eof()
        elif leave == "close":
            writer.close()
        else:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        await until(lambda: listener.connections == 0)
        await until(lambda: not listener._tasks)
        assert gone == [1]
        assert len(calls) == 1


@on_both_loops
async def test_clients_that_come_and_go_leave_nothing():
    async with a_listener() as listener:
        for size in range(0, 60, 3):
            async with a_client(listener, (GET + POST % 9 + b"123456789")[:size]):
                await asyncio.sleep(0)
        await until(lambda: listener.connections == 0)


@pytest.mark.parametrize(
    "fault",
    [lambda request: 1 / 0, lambda request: None, lambda request: request.begin(200, b"")],
    ids=["raises", "says nothing", "does not end"],
)
@on_both_loops
async def test_a_handler_that_fails_costs_its_own_connection_only(fault):
    async def fail(request):
        if request.path == "/a":
            fault(request)
        else:
            request.respond(200, b"", b"fine")

    with structlog.testing.capture_logs() as logs:
        await _fail_and_go_on(fail)
    assert [log["event"] for log in logs] == ["request-lost"]


async def _fail_and_go_on(fail):
    async with (
        a_listener(fail) as listener,
        a_client(listener, GET) as (broken, _),
        a_client(listener, GET.replace(b"/a", b"/b")) as (fine, _),
    ):
        with contextlib.suppress(ConnectionError):
            assert await all_of(broken) == b""
        assert (await asyncio.wait_for(fine.readuntil(b"fine"), 5)).startswith(b"HTTP/1.1 200 ")


@on_both_loops
async def test_more_connections_than_allowed_are_told_so():
    async with (
        a_listener(connections_max=1) as listener,
        a_client(listener, GET) as (first, _),
    ):
        await asyncio.wait_for(first.readuntil(b"/a"), 5)
        async with a_client(listener, GET) as (second, _):
            assert (await all_of(second)).startswith(b"HTTP/1.1 503 ")
        await until(lambda: listener.connections == 1)


# Drains.


@on_both_loops
async def test_a_drain_closes_idle_connections_and_lets_answers_finish():
    release, streaming = asyncio.Event(), asyncio.Event()

    async def stream(request):
        if request.path == "/a":
            request.respond(200, b"", b"/a")
            return
        request.begin(200, b"")
        request.write(b"first ")
        streaming.set()
        await release.wait()
        request.end(b"last")

    async with (
        a_listener(stream) as listener,
        a_client(listener, GET) as (idle, _),
        a_client(listener) as (fresh, _),
        a_client(listener, GET.replace(b"/a", b"/s") + GET) as (busy, _),
    ):
        await asyncio.wait_for(idle.readuntil(b"/a"), 5)
        await streaming.wait()
        drain = asyncio.create_task(listener.drain(5))
        assert await all_of(idle) == await all_of(fresh) == b""
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*listener.address)
        assert not drain.done()
        release.set()
        answer = await all_of(busy)
        assert answer.endswith(b"4\r\nlast\r\n0\r\n\r\n")
        assert answer.count(b"HTTP/1.1") == 1  # what waits behind it is the next gateway's
        await asyncio.wait_for(drain, 5)


@on_both_loops
async def test_a_request_that_has_come_or_is_coming_is_answered_in_a_drain():
    async with (
        a_listener() as listener,
        a_client(listener) as (coming, writer),
        a_client(listener) as (whole, other),
    ):
        writer.write(POST[:20])
        await until(lambda: any(not connection.idle for connection in listener._connections))
        other.write(GET)
        drain = asyncio.create_task(listener.drain(5))
        await asyncio.sleep(0.03)
        writer.write((POST % 2)[20:] + b"hi")
        answer = await all_of(coming)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in answer
        assert answer.endswith(b"/ahi")
        assert (await all_of(whole)).endswith(b"/a")
        await asyncio.wait_for(drain, 5)


@on_both_loops
async def test_what_outlasts_the_drain_is_told_and_may_say_so():
    async def stream(request):
        stop = asyncio.Event()
        request.on_stop = stop.set
        request.begin(200, b"")
        request.write(b"first ")
        await stop.wait()
        request.end(b"stopped")

    async with a_listener(stream) as listener, a_client(listener, GET) as (reader, _):
        await asyncio.wait_for(reader.readuntil(b"first "), 5)
        await asyncio.wait_for(listener.drain(0.05), 5)
        assert (await all_of(reader)).endswith(b"stopped\r\n0\r\n\r\n")


@on_both_loops
async def test_closing_cuts_what_is_left():
    ended = []

    async def hang(request):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(request)

    async with (
        a_listener(hang) as listener,
        a_client(listener, GET + GET) as (reader, _),
        a_client(listener, POST % 9),
    ):
        await until(lambda: len(listener._tasks) == 2)
        await listener.aclose()
        assert len(ended) == 2
        with contextlib.suppress(ConnectionError):
            assert await all_of(reader) == b""
