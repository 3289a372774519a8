"""The built console as it is served: what is in the build, and nothing else."""

import gzip
import re
from pathlib import Path

import httpx
import pytest

from gateway.console import Front, read_build

INDEX = (
    '<!doctype html><html><head><meta name="csp-nonce" content="">'
    '<script type="module" src="/assets/app-B1.js"></script></head></html>'
)
SCRIPT = b"console.log(1);" * 50
ROUTES = ("/", "/models", "/models/smollm2.js-like", "/sign-in?next=/models", "/administration")


async def api(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"api " + scope["path"].encode()})


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "data.bin").write_bytes(b"\0")
    (folder / "assets" / "app-B1.js").write_bytes(SCRIPT)
    (folder / "assets" / "app-B1.js.gz").write_bytes(gzip.compress(SCRIPT))
    (folder / "assets" / "app-B1.js.br").write_bytes(b"as brotli")
    (folder / "assets" / "archive.gz").write_bytes(b"no encoding of another file")
    (tmp_path / "secret").write_text("not in the build")
    (folder / "link").symlink_to(tmp_path / "secret")
    return folder


def browser(folder: Path) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=Front(api, read_build(folder)))
    return httpx.AsyncClient(transport=transport, base_url="http://admin")


async def test_every_route_of_the_page_gets_it_with_a_nonce_of_its_own(dist: Path):
    async with browser(dist) as client:
        nonces = set()
        for path in ROUTES:
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (
                200,
                "text/html; charset=utf-8",
            )
            (nonce,) = re.findall('name="csp-nonce" content="([^"]+)"', answer.text)
            policy = answer.headers["content-security-policy"]
            assert f"style-src 'self' 'nonce-{nonce}';" in policy
            assert answer.text == INDEX.replace('content=""', f'content="{nonce}"')
            assert answer.headers["cache-control"] == "no-cache"
            nonces.add(nonce)
        assert len(nonces) == len(ROUTES)


async def test_the_policy_lets_nothing_in_from_elsewhere(dist: Path):
    async with browser(dist) as client:
        for path in ("/", "/assets/app-B1.js", "/assets/gone.js"):
            headers = (await client.get(path)).headers
            policy = dict(
                part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
            )
            assert policy["default-src"] == policy["object-src"] == policy["base-uri"] == "'none'"
            assert policy["frame-ancestors"] == "'none'"
            assert policy["script-src"] == policy["connect-src"] == policy["font-src"] == "'self'"
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-opener-policy"] == "same-origin"
            assert headers["cross-origin-resource-policy"] == "same-origin"


async def body_at(folder: Path, path: str) -> tuple[int, bytes]:
    """As a client sends it that does not tidy its path up."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    await Front(api, read_build(folder))(scope, None, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(
    ("path", "kind", "cached"),
    [
        ("/assets/app-B1.js", "text/javascript; charset=utf-8", "immutable"),
        ("/favicon.svg", "image/svg+xml", "no-cache"),
        ("/data.bin", "application/octet-stream", "no-cache"),
        ("/assets/archive.gz", "application/octet-stream", "immutable"),
    ],
)
async def test_files_have_their_type_and_only_hashed_ones_are_kept(
    dist: Path, path: str, kind: str, cached: str
):
    async with browser(dist) as client:
        answer = await client.get(path, headers={"accept-encoding": "identity"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert cached in answer.headers["cache-control"]
    assert answer.content == (dist / path[1:]).read_bytes()


@pytest.mark.parametrize(
    ("accepts", "encoding"),
    [
        ("gzip, deflate, br", "br"),
        ("gzip", "gzip"),
        ("br;q=0, gzip;q=0.5", "gzip"),
        ("gzip;q=0.0", None),
        ("", None),
    ],
)
async def test_a_file_is_sent_as_compressed_as_the_client_takes_it(
    dist: Path, accepts: str, encoding: str | None
):
    async with (
        browser(dist) as client,
        client.stream("GET", "/assets/app-B1.js", headers={"accept-encoding": accepts}) as answer,
    ):
        assert answer.headers.get("content-encoding") == encoding
        assert answer.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    "path",
    [
        "/assets/app-A0.js",
        "/assets/app-B1.js.gz",
        "/assets/../../secret",
        "/assets/",
        "/favicon.ico",
        "/main.js",
    ],
)
async def test_what_is_not_in_the_build_is_no_page_either(dist: Path, path: str):
    status, body = await body_at(dist, path)
    assert status == 404
    assert b"load the page anew" in body


@pytest.mark.parametrize("path", ["/../secret", "/..\\secret", "//etc/hostname", "/link"])
async def test_no_path_reaches_a_file_beside_the_build(dist: Path, path: str):
    status, body = await body_at(dist, path)
    assert status == 200
    assert body.startswith(b"<!doctype html>"), "a route of the page"


@pytest.mark.parametrize(
    "path", ["/admin/v1/models", "/admin/v1/models:plan", "/healthz", "/metrics", "/schema/x"]
)
async def test_the_api_keeps_its_paths(dist: Path, path: str):
    async with browser(dist) as client:
        assert (await client.post(path)).text == f"api {path}"


async def test_a_page_is_read_only_and_a_head_is_enough(dist: Path):
    async with browser(dist) as client:
        refused = await client.post("/models")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        head = await client.head("/assets/app-B1.js", headers={"accept-encoding": ""})
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(SCRIPT))


async def test_a_console_that_is_not_built_says_how_to_build_it(tmp_path: Path):
    async with browser(tmp_path / "dist") as client:
        for path in ROUTES:
            answer = await client.get(path)
            assert answer.status_code == 503
            assert "make console" in answer.text
        assert (await client.get("/healthz")).text == "api /healthz"
