"""A client's connection in time: what waits, what is bounded, what is overdue, who has gone."""

import pytest
from listener_world import GET, POST, Client, echo, settle

from gateway.listener import ClientGoneError
from gateway.listener.connection import PIPELINED_MAX, WRITE_AHEAD_BYTES
from gateway.listener.request import BODY_AHEAD_BYTES_MAX


async def test_a_pipelined_request_waits_for_the_stream_before_it():
    client = Client()
    await client.send(GET + GET)
    first = client.requests[0]
    first.begin(200, b"")
    first.write(b"a")
    await settle()
    assert len(client.requests) == 1
    first.end()
    await settle()
    assert len(client.requests) == 2
    client.done.set_result(None)


async def test_requests_read_ahead_are_bounded():
    client = Client()
    await client.send(GET)
    for _ in range(PIPELINED_MAX):
        assert not client.pipe.paused
        await client.send(GET)
    assert client.pipe.paused
    client.requests[0].respond(200, b"", b"")
    await settle()
    assert not client.pipe.paused
    await client.send(GET * 100)
    assert client.pipe.paused
    for _ in range(100):
        client.requests[-1].respond(200, b"", b"")
        await settle()
        assert client.pipe.paused == (len(client.connection._waiting) >= PIPELINED_MAX)
    for task in client.listener._tasks:
        task.cancel()


async def test_a_body_is_read_no_further_ahead_than_the_limit():
    client = Client()
    await client.send(POST + b"content-length: 10000000\r\n\r\n")
    piece = b"x" * 100_000
    for _ in range(2):
        await client.send(piece)
        assert not client.pipe.paused
    await client.send(piece)
    assert client.pipe.paused
    (request,) = client.requests
    assert len(await request.read()) == 300_000 > BODY_AHEAD_BYTES_MAX
    assert not client.pipe.paused
    client.pipe.abort()
    with pytest.raises(ClientGoneError):
        await request.read()
    client.done.set_result(None)


async def test_the_body_of_a_waiting_request_is_not_read_ahead_either():
    client = Client()
    first = POST + b"content-length: 2\r\n\r\nhi"
    await client.send(first + POST + b"content-length: 1000000\r\n\r\n", b"x" * 300_000)
    assert client.pipe.paused
    assert await client.requests[0].read() == b"hi"
    assert client.pipe.paused
    client.requests[0].respond(200, b"", b"")
    await settle()
    assert not client.pipe.paused
    client.pipe.abort()
    client.done.set_result(None)


async def test_pressure_comes_and_goes_in_pairs():
    client = Client()
    client.pipe.stuck = True
    await client.send(GET)
    (request,) = client.requests
    told = []
    request.on_pressure = told.append
    request.begin(200, b"")
    for expected in ([True], [True, False], [True, False, True], [True, False, True, False]):
        if expected[-1]:
            request.write(b"x" * (WRITE_AHEAD_BYTES + 1))
        else:
            client.pipe.take(10**9)
        assert told == expected
        assert request.paused is expected[-1]
    request.end(b"x" * (WRITE_AHEAD_BYTES + 1))  # nobody is left to be told
    client.pipe.take(10**9)
    assert told == [True, False, True, False]
    client.done.set_result(None)


async def test_answers_nobody_takes_stop_the_reading_of_requests():
    async def much(request):
        request.respond(200, b"", b"x" * 100_000)

    client = Client(much)
    client.pipe.stuck = True
    for _ in range(100):
        if not client.pipe.paused:
            await client.send(GET * 5)
    assert client.pipe.unsent < WRITE_AHEAD_BYTES + 101_000
    assert len(client.requests) == 3
    client.pipe.take(10**9)
    await settle()
    assert len(client.requests) == 5
    assert not client.pipe.paused


async def test_a_client_that_takes_its_answer_slowly_keeps_it_and_one_that_stops_does_not():
    async def much(request):
        request.respond(200, b"", b"x" * 1_000_000)

    for close in (b"", b"connection: close\r\n"):
        client = Client(much)
        client.pipe.stuck = True
        await client.send(GET[:-2] + close + b"\r\n")
        for _ in range(5):
            client.pipe.take(100_000)
            await client.sweep(client.listener.send_s + 1)
            assert not client.pipe.closed
        await client.sweep(client.listener.send_s + 1)
        assert client.pipe.closed


# Deadlines.


async def test_a_head_has_a_deadline_however_slowly_it_comes():
    client = Client(echo)
    for begun in range(2):
        await client.sweep(1)
        for byte in GET[:9]:
            await client.send(bytes([byte]))
            await client.sweep(1)
        assert client.statuses == [200] * begun
        await client.send(GET[9:])
        assert client.statuses == [200] * (begun + 1)
    for byte in GET[:12]:
        await client.send(bytes([byte]))
        await client.sweep(1)
    assert client.statuses == [200, 200, 408]
    await client.sweep(10)
    assert client.pipe.closed


async def test_empty_lines_do_not_put_the_deadline_off():
    client = Client(echo)
    for _ in range(11):
        await client.send(b"\r\n")
        await client.sweep(1)
    assert client.pipe.closed


async def test_a_second_head_that_began_under_the_first_answer_has_its_time_from_there():
    client = Client()
    await client.send(GET + GET[:5])
    await client.sweep(100)
    client.requests[0].respond(200, b"", b"")
    await client.sweep(9)
    assert not client.pipe.ended
    await client.sweep(2)
    assert client.statuses == [200, 408]
    client.done.set_result(None)


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not():
    client = Client()
    await client.send(GET)
    await client.sweep(10_000)
    assert not client.pipe.closed
    client.requests[0].respond(200, b"", b"")
    client.done.set_result(None)
    await client.sweep(74)
    assert not client.pipe.closed
    await client.sweep(2)
    assert client.pipe.closed
    assert client.statuses == [200]


async def test_a_body_that_never_ends_is_dropped_for_a_while_behind_its_answer():
    async def refuse(request):
        request.respond(413, b"", b"")

    client = Client(refuse)
    await client.send(POST + b"content-length: 100000000\r\n\r\n")
    for _ in range(5):
        assert client.pipe.ended
        assert not client.pipe.closed
        await client.send(b"x" * 1_000_000)
    assert client.requests[0]._parts == []
    await client.sweep(3)
    assert client.pipe.closed


# Clients that go.


async def before_the_answer(client):
    await client.send(GET)


async def in_the_body(client):
    await client.send(POST + b"content-length: 10\r\n\r\nhi")


async def in_the_answer(client):
    await client.send(GET)
    client.requests[0].begin(200, b"")
    client.requests[0].write(b"x")


async def with_another_behind(client):
    await client.send(GET + POST + b"content-length: 10\r\n\r\nhi")


@pytest.mark.parametrize("how", ["lost", "eof"])
@pytest.mark.parametrize(
    "phase", [before_the_answer, in_the_body, in_the_answer, with_another_behind]
)
async def test_a_client_that_goes_is_told_of_once(phase, how):
    client = Client()
    await phase(client)
    (request,) = client.requests
    gone = []
    request.on_gone = lambda: gone.append(1)
    if how == "eof":
        assert not client.connection.eof_received()
    client.pipe.abort()
    assert gone == [1]
    assert request.gone
    assert client.listener.connections == 0
    sent = client.pipe.sent
    if not request.started:
        request.respond(200, b"", b"")
    else:
        request.end(b"x")
    assert client.pipe.sent == sent
    client.done.set_result(None)
    await settle()
    assert client.requests == [request]


async def test_half_a_connection_is_told_of_at_once_and_does_not_stay_for_its_answer():
    client = Client()
    client.pipe.stuck = True
    await in_the_answer(client)
    gone = []
    client.requests[0].on_gone = lambda: gone.append(1)
    client.connection.eof_received()
    assert gone == [1]
    await client.sweep(client.listener.send_s + 1)
    assert client.pipe.closed
    client.done.set_result(None)


async def test_a_client_that_goes_at_once_is_not_served():
    client = Client()
    client.connection.data_received(GET)
    client.pipe.abort()
    await settle()
    assert client.requests == []
    assert not client.listener._tasks


@pytest.mark.parametrize("end", ["respond", "abort"])
async def test_a_client_that_goes_after_its_answer_is_not_told_of(end):
    client = Client()
    await client.send(GET)
    (request,) = client.requests
    gone = []
    request.on_gone = lambda: gone.append(1)
    if end == "respond":
        request.respond(200, b"", b"")
    else:
        request.abort()
    client.pipe.abort()
    assert gone == []
    client.done.set_result(None)


async def test_reading_on_behind_ones_own_early_answer_ends():
    async def read_on(request):
        request.respond(413, b"", b"")
        with pytest.raises(ClientGoneError):
            await request.read()

    client = Client(read_on)
    await client.send(POST + b"content-length: 10\r\nexpect: 100-continue\r\n\r\n")
    assert not client.listener._tasks
    assert client.statuses == [413]


# Misuse.


@pytest.mark.parametrize(
    "wrong",
    [
        lambda r: (r.respond(200, b"", b""), r.respond(200, b"", b"")),
        lambda r: (r.begin(200, b""), r.begin(200, b"")),
        lambda r: (r.begin(200, b""), r.respond(200, b"", b"")),
        lambda r: (r.begin(200, b""), r.end(), r.write(b"x")),
        lambda r: (r.begin(200, b""), r.write(b"")),
        lambda r: r.write(b"x"),
        lambda r: r.end(),
    ],
)
async def test_misuse_is_an_error_and_writes_nothing_false(wrong):
    client = Client()
    await client.send(GET)
    with pytest.raises(AssertionError):
        wrong(client.requests[0])
    assert client.pipe.sent.count(b"HTTP/1.1") <= 1
    assert client.pipe.sent.count(b"0\r\n\r\n") <= 1
    client.done.set_result(None)


async def test_ending_twice_is_ending_once():
    client = Client()
    await client.send(GET)
    client.requests[0].begin(200, b"")
    client.requests[0].end(b"x")
    client.requests[0].end(b"y")
    assert client.pipe.sent.endswith(b"1\r\nx\r\n0\r\n\r\n")
    client.done.set_result(None)
