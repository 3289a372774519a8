"""Usage through the admin API: sums, and the single requests as CSV."""

import asyncio
import csv
import io
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest
from admin_world import ADMIN_SECRET, ME, World, served

from gateway.admin import usage as routes
from gateway.admin.usage_csv import COLUMNS, csv_lines, decimal_text
from registry.errors import UnavailableError
from registry.state import NANO, KeyKind
from registry.usage import ALL_USAGE, UsageLine, UsageRecord, UsageStatus

USAGE = "/admin/v1/usage"
HEADERS = {"authorization": f"Bearer {ADMIN_SECRET}"}
GROWTH_BYTES_MAX = 6 * 2**20


def used(request_id: str, **changes: object) -> UsageRecord:
    facts = {
        "key_id": "key_1",
        "model": "m",
        "variant": "default",
        "revision": 2,
        "mode": "aggregated",
        "status": UsageStatus.OK,
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "opened_at": 1_782_864_000.25,  # 2026-07-01
        "closed_at": 1_782_864_001.5,
        "operation": "chat.completions",
        "cost_nano": 1_500_000_000,
    }
    return UsageRecord(request_id=request_id, **(facts | changes))


def parsed(answer: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


async def test_sums_name_the_key(client: httpx.AsyncClient):
    (total,) = (await client.get(USAGE)).json()["items"]
    assert (total["key_name"], total["prompt_tokens"], total["requests"]) == ("app", 1200, 1)
    assert (total["model"], total["day"], total["cost"]) == ("smollm2", "", 0.0)


async def test_sums_are_of_a_time_and_told_apart_as_asked(admin: World, client: httpx.AsyncClient):
    await admin.store.record_usage([used("a"), used("b", closed_at=1_782_864_001.5 + 86_400)])
    days = (await client.get(f"{USAGE}?by=day&since=2026-07-01&until=2026-07-03")).json()["items"]
    assert [(each["day"], each["requests"], each["cost"]) for each in days] == [
        ("2026-07-01", 1, 1.5),
        ("2026-07-02", 1, 1.5),
    ]
    assert days[0]["key_id"] == days[0]["model"] == ""
    query = "by=model&by=key&until=2026-07-02T00:00:00Z&key=key_1&model=m"
    (one,) = (await client.get(f"{USAGE}?{query}")).json()["items"]
    assert (one["key_id"], one["model"], one["requests"]) == ("key_1", "m", 1)
    assert (await client.get(f"{USAGE}?key=key_9")).json() == {"items": []}


async def test_the_export_has_a_line_for_each_request(
    admin: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(routes, "ROWS_PER_PAGE", 2)
    key, _ = await admin.store.create_key(name='a "big", app', kind=KeyKind.INFERENCE, by=ME)
    await admin.store.record_usage([used(f"r{n}", key_id=key.id) for n in range(4)])
    answer = await client.get(f"{USAGE}.csv?since=2026-01-01")
    assert answer.headers["content-type"] == "text/csv; header=present; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    assert answer.text.startswith(",".join(COLUMNS) + "\r\n")
    assert answer.text.count("\r\n") == 5
    first, *rest = parsed(answer)
    assert len(rest) == 3
    assert first == {
        "opened_at": "2026-07-01T00:00:00.250Z",
        "closed_at": "2026-07-01T00:00:01.500Z",
        "request_id": "r0",
        "key_id": key.id,
        "key_name": 'a "big", app',
        "model": "m",
        "variant": "default",
        "revision": "2",
        "mode": "aggregated",
        "operation": "chat.completions",
        "status": "ok",
        "prompt_tokens": "3",
        "completion_tokens": "5",
        "cost": "1.500000000",
    }


async def test_the_export_is_of_a_time_a_key_and_a_model(admin: World, client: httpx.AsyncClient):
    await admin.store.record_usage(
        [
            used("early", closed_at=1_782_860_000.0),
            used("other-key", key_id="key_2"),
            used("other-model", model="n"),
            used("it"),
        ]
    )
    query = "since=2026-07-01T00:00:00Z&until=2026-07-02&key=key_1&model=m"
    assert [row["request_id"] for row in parsed(await client.get(f"{USAGE}.csv?{query}"))] == ["it"]
    assert parsed(await client.get(f"{USAGE}.csv?key=key_9")) == []


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str):
    line = UsageLine(id=1, record=used(text, key_id=text, model=text, variant=text))
    cells = next(csv.reader(io.StringIO(csv_lines([line], {text: text}).decode(), newline="")))
    assert cells.count("'" + text) == 5
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_a_cost_is_exact():
    assert [decimal_text(nano) for nano in (0, 1, NANO, 123_456_789_000_000_001)] == [
        "0.000000000",
        "0.000000001",
        "1.000000000",
        "123456789.000000001",
    ]


async def test_an_export_ends_at_the_time_it_began(
    admin: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    """Requests that end while it is read would otherwise keep it going."""
    monkeypatch.setattr(routes, "ROWS_PER_PAGE", 1)
    await admin.store.record_usage([used("later", closed_at=4e9)])
    assert [row["request_id"] for row in parsed(await client.get(f"{USAGE}.csv"))] == ["r1"]


async def test_no_more_exports_than_other_streams(admin: World, client: httpx.AsyncClient):
    ctx = await admin.app.dependencies["ctx"]()
    ctx.followers.count = 10**6
    answer = await client.get(f"{USAGE}.csv")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many")


async def test_a_database_that_is_away_is_told_before_the_first_line(
    admin: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    async def away(*_args: object, **_options: object):
        raise UnavailableError("the database did not answer")

    monkeypatch.setattr(admin.store, "usage_page", away)
    assert (await client.get(f"{USAGE}.csv")).status_code == 503


def test_an_export_that_breaks_off_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(routes, "ROWS_PER_PAGE", 100)
    with served(tmp_path) as admin:
        fill(tmp_path / "modelyard.db", 1_000)
        read, asked = admin.store.usage_page, 0

        async def breaking(*args: object, **options: object):
            nonlocal asked
            asked += 1
            if asked == 4:
                raise UnavailableError("the database did not answer")
            return await read(*args, **options)

        monkeypatch.setattr(admin.store, "usage_page", breaking)
        url = f"{admin.url}{USAGE}.csv"
        with httpx.stream("GET", url, headers=HEADERS) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()


async def test_of_300_000_requests_60_000_are_exported_in_little_memory(
    admin: World, tmp_path: Path
):
    """Past a client, which would need most of the time: what the app sends is only counted."""
    fill(tmp_path / "modelyard.db", 300_000)
    await admin.store.usage_page(ALL_USAGE, limit=1)
    process = psutil.Process()
    began_bytes, peak_bytes, lines = process.memory_info().rss, 0, 0

    async def send(message: dict) -> None:
        nonlocal peak_bytes, lines
        lines += message.get("body", b"").count(b"\r\n")
        peak_bytes = max(peak_bytes, process.memory_info().rss)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            whole.set()

    async def receive() -> dict:
        await whole.wait()
        return {"type": "http.disconnect"}

    whole = asyncio.Event()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"{USAGE}.csv",
        "raw_path": f"{USAGE}.csv".encode(),
        "query_string": b"since=2026-06-01&until=2026-06-01T16:40:00Z",
        "headers": [(b"authorization", HEADERS["authorization"].encode())],
        "client": ("127.0.0.1", 1),
        "server": ("admin", 80),
        "state": {},
    }
    await admin.app(scope, receive, send)
    assert lines == 1 + 60_000
    assert peak_bytes - began_bytes < GROWTH_BYTES_MAX, "it has 10 MiB"


def fill(database: Path, count: int) -> None:
    """*count* requests of June 2026."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute(
        """
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :count - 1)
        INSERT INTO usage
        SELECT NULL, printf('chatcmpl-%032x', i), 'key_' || (i % 200), 'model-' || (i % 8),
            'default', 1, 'aggregated', 'ok', i % 900, i % 300, :june + i, :june + i,
            'chat.completions', 1000 * i
        FROM n
        """,
        {"count": count, "june": datetime(2026, 6, 1, tzinfo=UTC).timestamp()},
    )
    connection.close()
