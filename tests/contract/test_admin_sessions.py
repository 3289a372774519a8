"""Signing in to the admin API: sessions of keys and of accounts, what they may, how they end."""

import asyncio
import itertools
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from admin_world import ADMIN_SECRET, INFERENCE_SECRET, ME, World, world
from argon2 import extract_parameters
from argon2.exceptions import VerifyMismatchError

from gateway.admin import sign_in
from gateway.admin.browser import COOKIE
from gateway.admin.sessions import inference_at
from registry import passwords
from registry.keys import digest
from registry.passwords import hash_password, is_password
from registry.state import AccessRole, KeyKind
from registry.store.keys import KeyChange
from registry.store.sessions import IDLE_S, LIFE_S, PER_ACTOR_MAX, SEEN_EVERY_S

SESSION, KEYS = "/admin/v1/session", "/admin/v1/keys"
ACCOUNTS = "/admin/v1/accounts"
PASSWORD = "correct horse battery"
PAGE = {"sec-fetch-site": "same-origin"}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def admin(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """Slow hashes are the library's; here they would only take time."""
    monkeypatch.setattr(sign_in, "hash_password", lambda password: f"hash of {password}")
    monkeypatch.setattr(sign_in, "is_password", lambda given, kept: kept == f"hash of {given}")
    async with world(tmp_path, clock) as made:
        yield made


@asynccontextmanager
async def browser(admin: World, **body: str):
    """A page that is signed in with *body*."""
    async with admin.client(None) as client:
        client.headers.update(PAGE)
        # httpx sends no Secure cookie over http, which browsers do to this machine.
        answer = await client.post(SESSION, json=body)
        assert answer.status_code == 201, answer.text
        client.headers["cookie"] = answer.headers["set-cookie"].partition(";")[0]
        client.headers["x-csrf-token"] = answer.json()["csrf"]
        yield client


async def account(admin: World, name: str, role: AccessRole = AccessRole.ADMIN) -> None:
    await admin.store.create_account(name, role, f"hash of {PASSWORD}", by=ME)


async def status(client: httpx.AsyncClient, method: str = "GET", url: str = KEYS) -> int:
    return (await client.request(method, url)).status_code


@pytest.mark.parametrize("way", ["key", "account"])
async def test_a_session_does_what_its_beginner_may(admin: World, clock: Clock, way: str):
    await account(admin, "alice")
    (key,) = (each for each in await admin.store.keys() if each.kind is KeyKind.ADMIN)
    body = {"key": ADMIN_SECRET} if way == "key" else {"account": "alice", "password": PASSWORD}
    async with browser(admin, **body) as page:
        view = (await page.get(SESSION)).json()
        assert view["actor"] == (key.id if way == "key" else "account:alice")
        assert (view["role"], view["csrf"]) == ("admin", page.headers["x-csrf-token"])
        assert view["expires_at"] == "2027-01-15T20:00:00.000Z"
        assert await status(page, url="/admin/v1/models") == 200
        assert await status(page, "POST", "/admin/v1/nodes/local/cordon") == 200
        (*_, entry) = await admin.store.audit()
        assert (entry.actor, entry.action) == (view["actor"], "node.cordon")


async def test_what_a_session_is_known_by_is_in_its_cookie_alone(admin: World):
    async with admin.client(None) as client:
        answer = await client.post(SESSION, json={"key": ADMIN_SECRET})
    (made,) = answer.headers.get_list("set-cookie")
    secret = made.partition("=")[2].partition(";")[0]
    assert made == f"{COOKIE}={secret}; Max-Age=43200; Path=/; Secure; HttpOnly; SameSite=Strict"
    assert len(secret) >= 43
    assert secret not in answer.text
    session = await admin.store.session(digest(secret))
    assert session is not None
    assert secret.encode() not in (admin.folder / "modelyard.db").read_bytes()


async def test_unsafe_requests_of_a_session_come_from_its_own_page(admin: World):
    unsafe = ("POST", "/admin/v1/nodes/local/cordon")
    async with browser(admin, key=ADMIN_SECRET) as page:
        for changed in (
            {"x-csrf-token": ""},
            {"x-csrf-token": "A" * 43},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            answer = await page.request(*unsafe, headers=changed)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "csrf"), changed
            assert (await page.get(SESSION, headers=changed)).status_code == 200
        del page.headers["sec-fetch-site"]
        assert await status(page, *unsafe) == 403, "says neither where it comes from"
        page.headers["origin"] = "http://admin"
        assert await status(page, *unsafe) == 200
    assert all(entry.action != "node.cordon" for entry in (await admin.store.audit())[:-1])


async def test_a_forged_request_reads_no_session(admin: World, monkeypatch: pytest.MonkeyPatch):
    async with browser(admin, key=ADMIN_SECRET) as page:

        async def read(_digest: bytes) -> None:
            raise AssertionError("a session was read")

        monkeypatch.setattr(admin.store, "session", read)
        for changed in ({"x-csrf-token": "A" * 43}, {"sec-fetch-site": "cross-site"}):
            answer = await page.delete("/admin/v1/models/canary", headers=changed)
            assert answer.status_code == 403


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("http://127.0.0.1:9000", ("", 9000)),
        ("http://[::1]:9000", ("", 9000)),
        ("http://10.0.0.5:80", ("10.0.0.5", 80)),
    ],
)
def test_where_inference_is_served_is_told_as_others_reach_it(asked: str, told: tuple[str, int]):
    assert inference_at(httpx.URL(asked)) == told


async def test_a_bearer_key_wins_over_a_cookie(admin: World):
    viewer, secret = await admin.store.create_key(
        name="v", kind=KeyKind.ADMIN, role=AccessRole.VIEWER, by=ME
    )
    async with browser(admin, key=ADMIN_SECRET) as page:
        for bearer, code in ((secret, 200), (INFERENCE_SECRET, 401)):
            answer = await page.get(SESSION, headers={"authorization": f"Bearer {bearer}"})
            assert answer.status_code == code
        answer = await page.get(SESSION, headers={"authorization": f"Bearer {secret}"})
        assert answer.json() == {
            "actor": viewer.id,
            "role": "viewer",
            "csrf": "",
            "expires_at": None,
            "inference_host": "inference",
            "inference_port": 80,
        }
        headers = {"authorization": f"Bearer {secret}"}
        answer = await page.post("/admin/v1/nodes/local/cordon", headers=headers)
        assert answer.json()["error"]["code"] == "forbidden"


async def test_a_viewer_looks_and_plans_and_changes_nothing(admin: World):
    _, secret = await admin.store.create_key(
        name="v", kind=KeyKind.ADMIN, role=AccessRole.VIEWER, by=ME
    )
    before = await admin.store.audit()
    async with admin.client(secret) as client:
        allowed = {
            ("POST", "/admin/v1/plan"),
            ("POST", "/admin/v1/models:check"),
            ("POST", "/admin/v1/models:diff"),
            ("POST", "/admin/v1/models:validate"),
            ("POST", "/admin/v1/recommendations"),
            ("POST", "/admin/v1/session"),
            ("DELETE", "/admin/v1/session"),
        }
        for method, path in routes(admin):
            if path.endswith(("/logs", "/live")) or path == "/schema":
                continue
            answer = await client.request(method, path)
            refused = answer.status_code == 403
            safe = method in ("GET", "HEAD", "OPTIONS") and path != "/admin/v1/export"
            may = (
                safe
                or (method, path) in allowed
                or (method, path)
                == (
                    "OPTIONS",
                    "/admin/v1/export",
                )
            )
            assert refused != may, (method, path, answer.text)
            if refused:
                error = answer.json()["error"]
                assert error["code"] == "forbidden"
                assert "needs the admin role" in error["message"]
    assert await admin.store.audit() == before


def routes(admin: World):
    for route in admin.app.routes:
        for method in sorted(route.methods):
            path = route.path_format
            for name in ("name", "worker_id", "key_id", "owner", "proposal_id"):
                path = path.replace(f"{{{name}}}", "x").replace(f"{{{name}:str}}", "x")
            yield method, path.replace("{number}", "1")


async def test_a_viewers_session_is_a_viewers(admin: World):
    await account(admin, "bob", AccessRole.VIEWER)
    async with browser(admin, account="bob", password=PASSWORD) as page:
        assert await status(page, url="/admin/v1/models") == 200
        answer = await page.delete("/admin/v1/models/canary")
        assert answer.status_code == 403
        assert "account:bob has the viewer role" in answer.json()["error"]["message"]
        assert await status(page, "DELETE", SESSION) == 200, "signing out is no change"
        assert await status(page) == 401


async def test_a_session_ends_by_itself(admin: World, clock: Clock):
    async with browser(admin, key=ADMIN_SECRET) as page:
        clock.now += IDLE_S - 1
        assert await status(page) == 200, "used within two hours"
        clock.now += IDLE_S - 1
        assert await status(page) == 200
        clock.now += IDLE_S
        assert await status(page) == 401, "idle"
    async with browser(admin, key=ADMIN_SECRET) as page:
        for _ in range(int(LIFE_S // 3600) - 1):
            clock.now += 3600
            assert await status(page) == 200
        clock.now += 3600
        assert await status(page) == 401, "however much it is used"
        answer = await page.get(KEYS)
        assert "sign in again" in answer.json()["error"]["message"]


async def test_use_is_written_down_seldom_and_moves_no_version(admin: World, clock: Clock):
    async with browser(admin, key=ADMIN_SECRET) as page:
        before = await admin.store.version()
        begun = clock.now
        secret = page.headers["cookie"].partition("=")[2]
        for pause_s, seen_at in ((SEEN_EVERY_S - 1, begun), (1, begun + SEEN_EVERY_S)):
            clock.now += pause_s
            assert await status(page) == 200
            session = await admin.store.session(digest(secret))
            assert session is not None
            assert session.seen_at == seen_at
        assert await admin.store.version() == before


async def test_signing_out_ends_it_for_whoever_has_its_secret(admin: World):
    async with browser(admin, key=ADMIN_SECRET) as page:
        answer = await page.delete(SESSION)
        assert answer.json() == {"signed_out": True}
        assert answer.headers["set-cookie"].startswith(f"{COOKIE}=; Max-Age=0; ")
        assert await status(page) == 401


async def end_by_password(admin: World) -> None:
    await admin.store.set_password("alice", "hash of another one", by=ME)


async def end_by_deletion(admin: World) -> None:
    await admin.store.delete_account("alice", by=ME)


@pytest.mark.parametrize("end", [end_by_password, end_by_deletion])
async def test_what_ends_an_account_ends_its_sessions_alone(admin: World, end):
    await account(admin, "alice")
    await account(admin, "alice.b")
    async with (
        browser(admin, account="alice", password=PASSWORD) as page,
        browser(admin, account="alice.b", password=PASSWORD) as other,
        browser(admin, key=ADMIN_SECRET) as keys,
    ):
        await end(admin)
        assert await status(page) == 401
        assert await status(other) == await status(keys) == 200


@pytest.mark.parametrize("how", ["revoke", "rotate", "overlap", "expire", "expired"])
async def test_what_ends_a_key_ends_its_sessions(admin: World, clock: Clock, how: str):
    expires_at = clock.now + 100 if how == "expired" else None
    key, secret = await admin.store.create_key(
        name="k", kind=KeyKind.ADMIN, expires_at=expires_at, by=ME
    )
    async with browser(admin, key=secret) as page, browser(admin, key=ADMIN_SECRET) as other:
        assert await status(page) == 200
        if how == "revoke":
            await admin.store.revoke_key(key.id, by=ME)
        elif how in ("rotate", "overlap"):
            await admin.store.rotate_key(key.id, overlap_s=100.0 * (how == "overlap"), by=ME)
        elif how == "expire":
            await admin.store.update_key(key.id, KeyChange(expires_at=clock.now + 100), by=ME)
        at_once = how in ("revoke", "rotate")
        assert await status(page) == (401 if at_once else 200)
        clock.now += 100
        assert await status(page) == 401
        assert await status(other) == 200


async def test_of_one_actor_the_newest_sessions_stay(admin: World, clock: Clock):
    (key,) = (each for each in await admin.store.keys() if each.kind is KeyKind.ADMIN)
    digests = [bytes([number]) * 32 for number in range(PER_ACTOR_MAX + 3)]
    for each in digests:
        clock.now += 1
        assert await admin.store.sign_in(key, each, by=ME) is not None
    there = [await admin.store.session(each) is not None for each in digests]
    assert there == [False] * 3 + [True] * PER_ACTOR_MAX


async def test_sessions_that_are_over_are_forgotten(admin: World, clock: Clock):
    (key,) = (each for each in await admin.store.keys() if each.kind is KeyKind.ADMIN)
    await admin.store.sign_in(key, b"a" * 32, by=ME)
    clock.now += IDLE_S
    await admin.store.sign_in(key, b"b" * 32, by=ME)
    await admin.store.forget_ended()
    clock.now -= IDLE_S
    assert await admin.store.session(b"a" * 32) is None, "though it would be good again by now"
    assert await admin.store.session(b"b" * 32) is not None


async def test_a_password_that_is_changed_while_it_is_checked_begins_nothing(admin: World):
    await account(admin, "alice")
    read = await admin.store.account("alice")
    await admin.store.set_password("alice", f"hash of {PASSWORD}", by=ME)  # the very same, anew
    assert await admin.store.sign_in(read, b"d" * 32, by=ME) is not None
    await admin.store.set_password("alice", "hash of another one", by=ME)
    assert await admin.store.sign_in(read, b"e" * 32, by=ME) is None


@pytest.mark.parametrize(
    "body",
    [
        {"key": INFERENCE_SECRET},
        {"key": "mka-" + "z" * 43},
        {"key": ""},
        {"account": "alice", "password": "guessed-it"},
        {"account": "alice", "password": ""},
        {"account": "mallory", "password": PASSWORD},
        {"account": "", "password": PASSWORD},
        {"account": "x" * 9000, "password": "y" * 9000},
    ],
)
async def test_a_wrong_sign_in_gets_no_session_and_is_told_of_without_what_was_typed(
    admin: World, body: dict[str, str]
):
    await account(admin, "alice")
    async with admin.client(None) as client:
        answer = await client.post(SESSION, json=body)
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    (*_, event) = await admin.store.events()
    (*_, entry) = await admin.store.audit()
    assert (event.kind, entry.action) == ("sign-in", "session.refuse")
    assert event.message.startswith("refused: ")
    known = body.get("account") == "alice"
    assert entry.object == ("account:alice" if known else "")
    for typed in body.values():
        if typed and typed != "alice":
            assert typed not in f"{event} {entry} {answer.text}"


async def test_sign_ins_are_audited(admin: World):
    await account(admin, "alice")
    async with browser(admin, account="alice", password=PASSWORD) as page:
        await page.delete(SESSION)
    audit = [(e.actor, e.action) for e in (await admin.store.audit())[-2:]]
    assert audit == [("account:alice", "session.begin"), ("account:alice", "session.end")]
    events = [event.message for event in (await admin.store.events())[-2:]]
    assert events == ["account:alice signed in (admin)", "account:alice signed out"]


async def test_guessing_is_slowed_down_by_account_and_by_address(admin: World):
    await account(admin, "alice")
    wrong = {"account": "alice", "password": "guessed-it"}
    async with admin.client(None) as client:
        for _ in range(10):
            assert (await client.post(SESSION, json=wrong)).status_code == 401
        answer = await client.post(SESSION, json=wrong)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many")
        assert int(answer.headers["retry-after"]) == 30
        for number in itertools.count():
            answer = await client.post(SESSION, json={"account": f"n{number}", "password": "w"})
            if answer.status_code == 429:
                break
        assert number == 9, "20 tries of one address"
        answer = await client.post(SESSION, json={"key": ADMIN_SECRET})
        assert answer.status_code == 429
        async with admin.client() as bearer:
            assert await status(bearer) == 200, "keys of programs are asked for no less"


async def test_right_sign_ins_cost_nothing(admin: World):
    await account(admin, "alice")
    for _ in range(25):
        async with browser(admin, account="alice", password=PASSWORD):
            pass


async def test_strangers_do_not_fill_the_audit(admin: World):
    before = len(await admin.store.audit())
    for number in range(70):
        transport = httpx.ASGITransport(app=admin.app, client=(f"10.0.0.{number}", 1))
        async with httpx.AsyncClient(transport=transport, base_url=admin.url) as client:
            await client.post(SESSION, json={"key": f"wrong-{number}"})
    assert len(await admin.store.audit()) - before == 50


async def test_few_passwords_are_checked_at_once(admin: World, monkeypatch: pytest.MonkeyPatch):
    going, most, lock, go_on = 0, 0, threading.Lock(), threading.Event()

    def slow(_given: str, _kept: str | None) -> bool:
        nonlocal going, most
        with lock:
            going += 1
            most = max(most, going)
        go_on.wait(10)
        with lock:
            going -= 1
        return False

    monkeypatch.setattr(sign_in, "is_password", slow)

    async def one(number: int) -> int:
        transport = httpx.ASGITransport(app=admin.app, client=(f"10.0.0.{number}", 1))
        async with httpx.AsyncClient(transport=transport, base_url=admin.url) as client:
            body = {"account": f"n{number}", "password": "w"}
            return (await client.post(SESSION, json=body)).status_code

    tries = [asyncio.ensure_future(one(number)) for number in range(25)]
    while sum(task.done() for task in tries) < 7:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    go_on.set()
    answers = await asyncio.gather(*tries)
    assert sorted(answers) == [401] * 18 + [429] * 7
    assert most == 2


async def test_an_unknown_account_is_verified_like_a_known_one(
    admin: World, monkeypatch: pytest.MonkeyPatch
):
    await account(admin, "alice")
    asked = []
    monkeypatch.setattr(sign_in, "is_password", lambda given, kept: asked.append(kept) or False)
    async with admin.client(None) as client:
        answers = [
            await client.post(SESSION, json={"account": name, "password": "w"})
            for name in ("alice", "nobody")
        ]
    assert asked == [f"hash of {PASSWORD}", None]
    assert answers[0].json() == answers[1].json()


async def test_accounts_are_made_listed_changed_and_deleted(admin: World, clock: Clock):
    async with admin.client() as client:
        body = {"name": "alice", "role": "viewer", "password": PASSWORD}
        answer = await client.post(ACCOUNTS, json=body)
        at = "2027-01-15T08:00:00.000Z"
        view = {"name": "alice", "role": "viewer", "created_at": at, "updated_at": at}
        assert (answer.status_code, answer.json()) == (201, view)
        assert (await client.post(ACCOUNTS, json=body)).status_code == 409
        assert (await client.get(ACCOUNTS)).json() == {"items": [view]}
        clock.now += 60
        answer = await client.put(f"{ACCOUNTS}/alice/password", json={"password": PASSWORD + "!"})
        assert answer.json() == view | {"updated_at": "2027-01-15T08:01:00.000Z"}
        assert await admin.store.accounts() == (await admin.store.account("alice"),)
        async with browser(admin, account="alice", password=PASSWORD + "!"):
            pass
        assert (await client.delete(f"{ACCOUNTS}/alice")).json()["name"] == "alice"
        assert (await client.get(ACCOUNTS)).json() == {"items": []}
        audit = [(e.action, e.object) for e in await admin.store.audit() if e.object == "alice"]
        assert audit == [
            ("account.create", "alice"),
            ("account.set-password", "alice"),
            ("account.delete", "alice"),
        ]
        told = " ".join(event.message for event in await admin.store.events())
        assert PASSWORD not in told + (await client.get("/admin/v1/audit")).text


async def test_a_viewers_key_stays_one_through_an_export(admin: World):
    key, _ = await admin.store.create_key(
        name="v", kind=KeyKind.ADMIN, role=AccessRole.VIEWER, by=ME
    )
    async with admin.client() as client:
        text = (await client.get("/admin/v1/export?with_keys=true")).text
    assert "role: viewer" in text
    found = await admin.store.export(with_keys=True, by=ME)
    assert {k.id: k.role for k in found.keys}[key.id] is AccessRole.VIEWER


async def test_a_long_answer_can_ask_whether_its_reader_is_still_admitted(
    admin: World, clock: Clock
):
    ctx = await admin.app.dependencies["ctx"]()
    async with browser(admin, key=ADMIN_SECRET) as page:
        cookie = page.headers["cookie"].encode()
        scopes = [
            {"headers": [(b"cookie", cookie)]},
            {"headers": [(b"authorization", f"Bearer {ADMIN_SECRET}".encode())]},
            {"headers": []},
        ]
        admitted = [await ctx.guard.is_still_admitted(scope) for scope in scopes]
        assert admitted == [True, True, False]
        clock.now += IDLE_S
        assert not await ctx.guard.is_still_admitted(scopes[0]), "following is no use"


def test_a_hash_is_of_its_password_alone():
    kept = hash_password("pass-wörd of mine")
    assert kept.startswith("$argon2id$")
    assert "pass" not in kept
    assert is_password("pass-wo\u0308rd of mine", kept), "as another keyboard makes it"
    assert not is_password("pass-word of mine", kept)
    for guessed in ("", "nobody", PASSWORD):
        assert not is_password(guessed, None)
    assert not is_password("x", "no hash")


def test_what_stands_for_no_account_costs_what_an_accounts_hash_does():
    kept, nobodys = hash_password(PASSWORD), passwords._NOBODYS
    assert extract_parameters(nobodys) == extract_parameters(kept)
    with pytest.raises(VerifyMismatchError):  # computed, and not refused for its form
        passwords._HASHER.verify(nobodys, PASSWORD)


async def test_a_page_that_nobody_is_signed_in_to_learns_so_without_an_error(admin: World):
    async with admin.client(None) as page:
        answer = await page.get(SESSION)
        assert (answer.status_code, answer.json()) == (200, None)
