"""Streams of the admin API over a real socket: what follows goes on, and ends with its client."""

import asyncio
import json
import threading
import time
from pathlib import Path

import httpx
import msgspec
import pytest
from admin_world import ADMIN_SECRET, World, served, world

from gateway.admin.context import Bound
from gateway.admin.errors import TooManyError
from pipelines.cluster.base import ClusterError
from pipelines.cluster.logtail import LogPiece, read_log, stream_log
from pipelines.cluster.workerdir import WorkerDir

HEADERS = {"authorization": f"Bearer {ADMIN_SECRET}"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory):
    with served(tmp_path_factory.mktemp("streams")) as made:
        yield made


@pytest.fixture
def client(admin: World):
    with httpx.Client(base_url=admin.url + "/admin/v1", headers=HEADERS, timeout=10) as made:
        yield made


def first_worker(client: httpx.Client) -> str:
    return str(client.get("/workers").json()["items"][0]["id"])


def test_a_log_is_plain_text_from_its_tail(client: httpx.Client):
    worker = first_worker(client)
    answer = client.get(f"/workers/{worker}/logs?tail=2")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == f"{worker} says 1\n{worker} says 2\n"


def test_a_followed_log_is_closed_when_its_reader_goes(admin: World, client: httpx.Client):
    url = f"/workers/{first_worker(client)}/logs?follow=true"
    with client.stream("GET", url) as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(6)][-1] == "more"
        assert admin.cluster.followed == 1
    deadline = time.monotonic() + 5
    while admin.cluster.followed and time.monotonic() < deadline:
        time.sleep(0.02)
    assert admin.cluster.followed == 0


def test_a_burst_of_lines_passes_quickly_and_whole(
    admin: World, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lines, folder = 100_000, WorkerDir(tmp_path)
    folder.log.parent.mkdir(parents=True, exist_ok=True)
    folder.log.write_bytes(b"first\n")
    closed = threading.Event()

    async def logs(node: str, worker_id: str, *, tail_lines: int, follow: bool):
        async def read(position: int) -> LogPiece:
            piece = await asyncio.to_thread(read_log, folder, position, tail_lines)
            return msgspec.structs.replace(piece, alive=True)

        try:
            async for chunk in stream_log(read, follow=follow):
                yield chunk
        finally:
            closed.set()

    monkeypatch.setattr(admin.cluster, "logs", logs)
    with client.stream("GET", f"/workers/{first_worker(client)}/logs?follow=true") as answer:
        chunks = answer.iter_raw()
        assert next(chunks) == b"first\n"
        burst = b"".join(b"%06d %b\n" % (n, b"x" * 90) for n in range(lines))
        began, got = time.monotonic(), bytearray()
        with folder.log.open("ab") as file:
            file.write(burst)
        while len(got) < len(burst):
            got += next(chunks)
        assert time.monotonic() - began < 10, "a second or less on a machine that does nothing else"
        assert got == burst
    assert closed.wait(5), "it is read on although its reader has gone"


def test_followed_events_arrive_as_they_happen(client: httpx.Client):
    last_id = client.get("/events?limit=1").json()["last_id"]
    with client.stream("GET", f"/events?follow=true&after={last_id}") as answer:
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        lines = (line for line in answer.iter_lines() if line)
        for verb in ("cordon", "uncordon"):
            client.post(f"/nodes/local/{verb}")
            event = json.loads(next(lines))
            assert (event["node"], event["kind"]) == ("local", "node-changed")
            assert event["id"] > last_id


def test_followed_events_begin_with_the_newest(client: httpx.Client):
    client.post("/nodes/local/cordon")
    newest = client.get("/events?limit=1").json()["items"][0]
    with client.stream("GET", "/events?follow=true&limit=1") as answer:
        assert json.loads(next(answer.iter_lines())) == newest


async def test_a_log_that_cannot_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def broken(node, worker_id: str, *, tail_lines: int, follow: bool):
        yield b"one\n"
        raise ClusterError("the node is gone")

    async with world(tmp_path) as admin, admin.client() as client:
        monkeypatch.setattr(admin.cluster, "logs", broken)
        (worker,) = await admin.store.workers(model="smollm2")
        answer = await client.get(f"/admin/v1/workers/{worker.id}/logs")
    assert answer.text == "one\nmodelyard: this log cannot be read: the node is gone\n"


def test_no_more_streams_are_followed_than_the_bound():
    followers = Bound(1, "one is followed already")
    with followers.one(), pytest.raises(TooManyError, match="followed already"):
        followers.check()
    followers.check()


async def test_a_bound_that_is_reached_answers_429(tmp_path: Path):
    async with world(tmp_path) as admin, admin.client() as client:
        ctx = await admin.app.dependencies["ctx"]()
        ctx.followers.count = 10**6
        answer = await client.get("/admin/v1/events?follow=true")
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many")
        await asyncio.sleep(0)
