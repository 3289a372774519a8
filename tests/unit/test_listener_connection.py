"""A client's connection, byte by byte: the same requests however they are cut, none false."""

import asyncio
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listener_world import GET, POST, Client, echo, settle, undated

from gateway.listener.connection import HEAD_BYTES_MAX
from gateway.listener.request import path_of

# Requests, however they are cut.

MESSAGES = {
    b"GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n": b"GET /a -\n",
    b"POST /b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k \r\ncontent-length: 5 \r\n\r\nhello": (
        b"POST /b Bearer k\nhello"
    ),
    b"POST /stream HTTP/1.1\r\nhost: x\r\ntransfer-encoding: Chunked\r\n\r\n"
    b'2\r\nhe\r\n3;x="y"\r\nllo\r\n0\r\nauthorization: late\r\n\r\n': b"POST /stream -\nhello",
    b"\r\nOPTIONS * HTTP/1.1\r\nhost:\r\n\r\n": b"OPTIONS * -\n",
    b"GET http://x/%C3%A9 HTTP/1.1\r\nhost: x\r\n\r\n": "GET /é -\n".encode(),
    b"POST /0 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nexpect: 100-continue\r\n\r\n": (
        b"POST /0 -\n"
    ),
}


def told(answers):
    """The bodies of answers, chunked or not."""
    out = []
    while answers:
        head, answers = answers.split(b"\r\n\r\n", 1)
        if length := re.search(rb"content-length: (\d+)", head):
            size = int(length[1])
            out.append(answers[:size])
            answers = answers[size:]
        else:
            body, answers = answers.split(b"0\r\n\r\n", 1)
            out.append(b"".join(re.findall(rb"[0-9a-f]+\r\n([^\r]*)\r\n", body)))
    return out


@settings(deadline=None)
@given(
    messages=st.lists(st.sampled_from(list(MESSAGES)), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 1500), max_size=12),
)
def test_requests_are_the_same_however_their_bytes_are_cut(messages, cuts):
    async def run():
        data = b"".join(messages)
        cut = sorted({0, *cuts, len(data)})
        client = Client(echo)
        await client.send(*(data[a:b] for a, b in pairwise(cut)))
        for _ in messages:
            await settle()
        assert told(client.pipe.sent) == [MESSAGES[message] for message in messages]
        assert not client.pipe.paused
        assert client.connection.idle

    asyncio.run(run())


async def test_requests_byte_by_byte():
    client = Client(echo)
    await client.send(*(bytes([byte]) for byte in b"".join(MESSAGES)))
    assert told(client.pipe.sent) == list(MESSAGES.values())


# What is no request.

REFUSED = [
    ("length and chunks", POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    ("chunks and length", POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n", 400),
    ("two lengths", POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc", 400),
    ("a list of lengths", POST + b"content-length: 3, 3\r\n\r\nabc", 400),
    ("a signed length", POST + b"content-length: +3\r\n\r\nabc", 400),
    ("a negative length", POST + b"content-length: -3\r\n\r\nabc", 400),
    ("an empty length", POST + b"content-length:\r\n\r\nabc", 400),
    ("an endless length", POST + b"content-length: 99999999999999999999\r\n\r\n", 400),
    ("chunked not last", POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    ("chunked twice", POST + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    ("a coding", POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("codings", POST + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n", 501),
    ("no such coding", POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ("identity", POST + b"transfer-encoding: identity\r\n\r\nabc", 501),
    ("a tab before chunked", POST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    ("chunks in 1.0", b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("obs-fold", b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n", 400),
    ("bare LF", b"GET / HTTP/1.1\nhost: x\n\n", 400),
    ("bare LF behind a header", b"GET / HTTP/1.1\r\nhost: x\na: b\r\n\r\n", 400),
    ("bare CR", b"GET / HTTP/1.1\r\nhost: x\ra: b\r\n\r\n", 400),
    ("a space before the colon", b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
    ("NUL", b"GET / HTTP/1.1\r\nhost: \0\r\n\r\n", 400),
    ("no name", b"GET / HTTP/1.1\r\nhost: x\r\n: y\r\n\r\n", 400),
    ("no colon", b"GET / HTTP/1.1\r\nhost\r\n\r\n", 400),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two hosts", b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    ("two hosts in 1.0", b"GET / HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    ("a space in the target", b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    ("HTTP/0.9", b"GET /\r\n\r\n", 505),
    ("HTTP/2 in words", b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 505),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("no such method", b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    ("many headers", b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 2000 + b"\r\n", 431),
    ("a long target", b"GET /" + b"a" * HEAD_BYTES_MAX + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
    ("a long header", b"GET / HTTP/1.1\r\na: " + b"b" * HEAD_BYTES_MAX + b"\r\n\r\n", 431),
]


@pytest.mark.parametrize("size", [1 << 20, 4096], ids=["whole", "cut"])
@pytest.mark.parametrize(
    ("data", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_what_is_no_request_is_refused_and_nothing_behind_it_is_read(data, status, size):
    client = Client(echo)
    await client.send(*(data[at : at + size] for at in range(0, len(data), size)), GET)
    assert client.statuses == [status]
    assert b"connection: close\r\n" in client.pipe.sent
    assert client.requests == []
    assert client.pipe.ended


@pytest.mark.parametrize(
    "body",
    [
        b"g\r\n",
        b"-1\r\n",
        b"0x3\r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3\nabc\r\n",
        b"fffffffffffffffff\r\n",
        b"\r\n",
        b"3\r\nabc\n",
        b"3\r\nabcd\r\n",
        b'3;a="\n"\r\nabc\r\n',
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_a_malformed_body_is_a_400_and_ends_its_request(body, together):
    head = POST + b"transfer-encoding: chunked\r\n\r\n"
    client = Client(echo)
    await client.send(*((head + body,) if together else (head, body)), b"0\r\n\r\n" + GET)
    assert client.statuses == [400]
    assert client.pipe.ended
    assert not client.listener._tasks
    assert [request.gone for request in client.requests] == [True] * (not together)


async def test_a_malformed_body_behind_the_begin_of_its_answer_cuts_the_connection():
    client = Client()
    await client.send(POST + b"transfer-encoding: chunked\r\n\r\n")
    (request,) = client.requests
    gone = []
    request.on_gone = lambda: gone.append(1)
    request.begin(200, b"")
    request.write(b"x")
    await client.send(b"no chunk\r\n")
    assert client.pipe.closed
    assert gone == [1]
    client.done.set_result(None)


@pytest.mark.parametrize("garbage", [b"\x00", b"POST / HTTP/1.1\r\nhost : x\r\n"])
async def test_garbage_behind_a_request_is_refused_behind_its_answer(garbage):
    client = Client()
    await client.send(GET + GET + garbage)
    assert client.pipe.sent == b""
    for _ in range(2):
        client.requests[-1].respond(200, b"", b"")
        client.done.set_result(None)
        await settle()
    assert client.statuses == [200, 200, 400]
    assert client.pipe.ended


async def test_a_pipelined_request_with_a_malformed_body_is_refused_and_not_begun():
    client = Client()
    await client.send(GET + POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n")
    client.requests[0].respond(200, b"", b"")
    client.done.set_result(None)
    await settle()
    assert client.statuses == [200, 400]
    assert len(client.requests) == 1


async def test_headers_behind_a_body_are_bounded_and_mean_nothing():
    client = Client()
    head = POST + b"transfer-encoding: chunked\r\n\r\n"
    await client.send(head, b"2\r\nhi\r\n0\r\nauthorization: Bearer k\r\nx: ")
    await client.send(*[b"y" * 1000] * (HEAD_BYTES_MAX // 1000 + 1))
    assert client.statuses == [431]
    assert client.requests[0].authorization is None
    client.done.set_result(None)


async def test_a_large_body_does_not_count_as_the_next_head():
    client = Client(echo)
    body = b"x" * 200_000
    post = POST + b"content-length: %d\r\n\r\n" % len(body)
    await client.send(post + body[:50_000], body[50_000:] + GET[:10], GET[10:])
    assert client.statuses == [200, 200]


async def test_a_head_just_within_the_limit_passes_in_pieces():
    head = b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * (HEAD_BYTES_MAX - 200) + b"\r\n\r\n"
    client = Client(echo)
    data = head * 3
    await client.send(*(data[at : at + 1000] for at in range(0, len(data), 1000)))
    assert client.statuses == [200, 200, 200]


# Versions, methods, upgrades.


@pytest.mark.parametrize(
    ("head", "connection", "kept"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\n", b"", True),
        (b"GET / HTTP/1.1\r\nhost: x\r\nconnection: keep-alive\r\n", b"", True),
        (b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Close\r\n", b"connection: close\r\n", False),
        (b"GET / HTTP/1.1\r\nhost: x\r\nconnection: a, close\r\n", b"connection: close\r\n", False),
        (b"GET / HTTP/1.0\r\n", b"connection: close\r\n", False),
        (b"GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n", b"connection: keep-alive\r\n", True),
    ],
)
async def test_the_client_is_told_whether_its_connection_stays(head, connection, kept):
    client = Client(echo)
    await client.send(head + b"\r\n")
    assert undated(client.pipe.sent) == (
        b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n%b\r\nGET / -\n" % connection
    )
    assert client.pipe.ended is not kept


async def test_a_stream_for_http_1_0_ends_with_its_connection():
    client = Client(echo)
    await client.send(b"GET /stream HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert undated(client.pipe.sent) == (
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nGET /stream -\n"
    )
    assert client.pipe.ended


async def test_head_gets_the_length_and_no_body():
    client = Client(echo)
    await client.send(GET.replace(b"GET", b"HEAD"), GET)
    head, rest = client.pipe.sent.split(b"\r\n\r\n", 1)
    assert b"content-length: 10" in head
    assert rest.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("version", "sent", "asked"),
    [(b"1.1", b"", True), (b"1.0", b"", False), (b"1.1", b"h", False)],
)
async def test_a_body_is_asked_for_only_where_that_is_known_and_needed(version, sent, asked):
    client = Client(echo)
    head = b"POST / HTTP/%b\r\nhost: x\r\nexpect: 100-Continue\r\ncontent-length: 2\r\n\r\n"
    await client.send(head % version + sent)
    assert client.pipe.sent == (b"HTTP/1.1 100 Continue\r\n\r\n" if asked else b"")
    await client.send(b"hi"[len(sent) :])
    assert client.pipe.sent.endswith(b"POST / -\nhi")


async def test_a_body_that_is_refused_is_not_asked_for():
    async def refuse(request):
        request.respond(413, b"", b"")

    client = Client(refuse)
    await client.send(POST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert client.statuses == [413]
    assert b"connection: close\r\n" in client.pipe.sent


UPGRADE = b"host: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("head", "body", "answer"),
    [
        (b"POST /b HTTP/1.1\r\n" + UPGRADE + b"content-length: 5\r\n", b"hello", b"hello"),
        (b"POST /b HTTP/1.1\r\n" + UPGRADE + b"content-length: 0\r\n", b"", b""),
        (
            b"POST /b HTTP/1.1\r\n" + UPGRADE + b"transfer-encoding: chunked\r\n",
            b"5\r\nhello\r\n0\r\n\r\n",
            b"hello",
        ),
    ],
)
async def test_an_upgrade_is_declined_and_its_request_answered(head, body, answer, together):
    client = Client(echo)
    head += b"\r\n"
    await client.send(*((head + body + GET,) if together else (head, body, GET)))
    assert client.statuses == [200]
    assert b"connection: close\r\n" in client.pipe.sent
    assert client.pipe.sent.endswith(b"\r\n\r\nPOST /b -\n" + answer)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"CONNECT h:80 HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n",
    ],
)
async def test_nothing_behind_an_upgrade_without_a_body_is_taken_for_a_request(head):
    client = Client(echo)
    await client.send(GET + head + GET, GET)
    assert client.statuses == [200, 200]
    assert client.pipe.ended


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v1/models", "/v1/models"),
        (b"/v1/models?x=/y", "/v1/models"),
        (b"/v1%2Fmodels", "/v1/models"),
        (b"/%zz%", "/%zz%"),
        (b"/%ff", "/\ufffd"),
        (b"http://u@h:1/v1/models?x", "/v1/models"),
        (b"http://h", "/"),
        (b"*", "*"),
        (b"h:80", ""),
        (b"", ""),
    ],
)
def test_paths(target, path):
    assert path_of(target) == path
