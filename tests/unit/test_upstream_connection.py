"""A connection to a worker: the same answer however its bytes are cut, and never a false one."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.connection import BUFFER_BYTES_MAX, HEAD_BYTES_MAX, Connection
from gateway.proxy.errors import BrokenAnswerError, CutOffError, ResetError, UpstreamError


class Pipe(asyncio.Transport):
    """A transport that notes what is done with it."""

    def __init__(self):
        super().__init__()
        self.sent, self.paused, self.closed = b"", False, False

    def write(self, data):
        self.sent += data

    def abort(self):
        self.closed = True

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False


def connected():
    lost = []
    connection = Connection(asyncio.get_running_loop(), lost.append)
    pipe = Pipe()
    connection.connection_made(pipe)
    return connection, pipe, lost


def feed(connection, pieces):
    for piece in pieces:
        if connection.closed:
            break
        connection.data_received(piece)


async def result(connection):
    """What a request makes of what has come: status, body and whether to keep the connection."""
    try:
        await connection.wait_head()
        body = await connection.read_all(10**6)
    except UpstreamError as error:
        return type(error)
    return connection.status, body, connection.reusable


LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n"
CLOSING = LENGTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
NOTHING = b"HTTP/1.1 204 No\r\n\r\n"
ANSWERS = {
    LENGTH: (200, b"hello", True),
    CHUNKED: (200, b"hello", True),
    INTERIM + CHUNKED: (200, b"hello", True),
    CLOSING: (200, b"hello", False),
    NOTHING: (204, b"", True),
}


@given(answer=st.sampled_from(list(ANSWERS)), cuts=st.lists(st.integers(0, 120)))
def test_any_cut_gives_the_same_answer(answer, cuts):
    async def run():
        edges = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
        connection, _, _ = connected()
        for _ in range(2 if ANSWERS[answer][2] else 1):  # a second request on the same one
            connection.start(b"head", b"body")
            feed(
                connection,
                [answer[a:b] for a, b in pairwise(edges) if a < b],
            )
            assert await result(connection) == ANSWERS[answer]
            connection.busy = False

    asyncio.run(run())


@given(answer=st.sampled_from(list(ANSWERS)), end=st.integers(0, 120))
def test_an_answer_cut_off_is_never_taken_for_a_whole_one(answer, end):
    async def run():
        part = answer[: min(end, len(answer) - 1)]
        connection, _, lost = connected()
        connection.start(b"", b"")
        feed(connection, [part] if part else [])
        connection.connection_lost(None)
        assert await result(connection) is (CutOffError if part else ResetError)
        assert lost == [connection]

    asyncio.run(run())


@given(data=st.binary(min_size=1, max_size=300))
def test_any_bytes_are_an_answer_or_an_error(data):
    async def run():
        connection, _, _ = connected()
        connection.start(b"", b"")
        feed(connection, [data])
        connection.connection_lost(None)
        assert await result(connection) in (CutOffError, BrokenAnswerError) or connection.status

    asyncio.run(run())


async def test_reading_stops_while_nobody_takes_what_came():
    connection, pipe, _ = connected()
    connection.start(b"", b"")
    feed(connection, [b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n"])
    feed(connection, [b"x" * (BUFFER_BYTES_MAX + 1)])
    assert pipe.paused
    assert len(await connection.read()) == BUFFER_BYTES_MAX + 1
    assert not pipe.paused


async def test_a_body_over_the_limit_is_not_kept_reading():
    connection, _, _ = connected()
    connection.start(b"", b"")
    feed(connection, [b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n" + b"x" * 20])
    with pytest.raises(BrokenAnswerError):
        await connection.read_all(10)


async def test_an_endless_head_closes_the_connection():
    connection, pipe, _ = connected()
    connection.start(b"", b"")
    feed(connection, [b"HTTP/1.1 200 OK\r\nx: ", *([b"y" * 1024] * (HEAD_BYTES_MAX // 1024 + 1))])
    assert pipe.closed
    assert await result(connection) is BrokenAnswerError


async def test_bytes_without_a_request_close_the_connection():
    connection, pipe, _ = connected()
    connection.data_received(LENGTH)
    assert pipe.closed


async def test_a_second_answer_to_one_request_reaches_nobody():
    connection, pipe, _ = connected()
    connection.start(b"", b"")
    feed(connection, [LENGTH + LENGTH.replace(b"hello", b"evil!")])
    assert await result(connection) == (200, b"hello", False)
    assert pipe.closed


async def test_framing_that_completes_later_gives_the_connection_back_then():
    connection, _, _ = connected()
    connection.start(b"", b"")
    feed(connection, [CHUNKED[:-5]])
    back = []
    connection.finish(back.append, timeout_s=5)
    assert back == []
    feed(connection, [CHUNKED[-5:]])
    assert back == [connection]
    assert connection.reusable


async def test_framing_that_does_not_complete_in_time_closes_the_connection():
    connection, pipe, _ = connected()
    connection.start(b"", b"")
    feed(connection, [CHUNKED[:-5]])
    connection.finish(lambda _: None, timeout_s=0.01)
    await asyncio.sleep(0.05)
    assert pipe.closed
