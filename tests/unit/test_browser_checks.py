"""Which requests a browser's own page sent: cookie, CSRF token, origin. And buckets of tries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.browser import (
    COOKIE,
    check_page,
    check_sign_in,
    cookie,
    cookie_secret,
    csrf_token,
)
from gateway.admin.buckets import Buckets
from gateway.admin.errors import BadRequestError, CsrfError

SECRET = "s" * 43
TOKEN = csrf_token(SECRET).encode()


def headers(**given: str) -> dict[bytes, bytes]:
    return {name.replace("_", "-").encode(): value.encode() for name, value in given.items()}


def test_the_cookie_is_bound_to_this_host_and_no_script_reads_it():
    made = cookie(SECRET, 60)
    assert made.startswith(f"{COOKIE}={SECRET}; ")
    assert COOKIE.startswith("__Host-")
    for attribute in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=60"):
        assert attribute in made.split("; ")
    assert "Domain" not in made


@pytest.mark.parametrize(
    ("sent", "secret"),
    [
        (f"{COOKIE}={SECRET}", SECRET),
        (f"a=b; {COOKIE}={SECRET}; c=d", SECRET),
        (f"modelyard={SECRET}", None),
        (f"x{COOKIE}={SECRET}", None),
        (f"{COOKIE}=", None),
        (f"{COOKIE}={'s' * 500}", None),
        ("", None),
    ],
)
def test_the_secret_is_found_in_its_own_cookie_alone(sent: str, secret: str | None):
    assert cookie_secret(headers(cookie=sent)) == secret


def test_a_token_is_of_one_session_and_does_not_tell_its_secret():
    assert csrf_token(SECRET) == csrf_token(SECRET)
    assert csrf_token(SECRET) != csrf_token("t" * 43)
    assert SECRET not in csrf_token(SECRET)


OWN = {"origin": "http://127.0.0.1:8001", "host": "127.0.0.1:8001"}
OTHER_PORT = {"origin": "http://127.0.0.1:3000", "host": "127.0.0.1:8001"}


@pytest.mark.parametrize(
    ("sent", "page", "sign_in"),
    [
        ({"sec_fetch_site": "same-origin"}, True, True),
        ({"sec_fetch_site": "same-origin"} | OTHER_PORT, True, True),  # a development proxy
        ({"sec_fetch_site": "same-site"} | OTHER_PORT, False, False),
        ({"sec_fetch_site": "same-site"} | OWN, False, False),
        ({"sec_fetch_site": "cross-site"}, False, False),
        ({"sec_fetch_site": "none"}, False, False),
        ({"sec_fetch_site": ""}, False, False),
        (OWN, True, True),
        (OTHER_PORT, False, False),
        ({"origin": "null", "host": "127.0.0.1:8001"}, False, False),
        ({"origin": "http://", "host": ""}, False, False),
        ({"origin": "https://Yard.example", "host": "yard.example"}, True, True),
        ({"host": "127.0.0.1:8001"}, False, True),  # no browser
        ({}, False, True),
    ],
)
def test_a_page_of_another_origin_neither_acts_nor_signs_in(
    sent: dict[str, str], page: bool, sign_in: bool
):
    found = headers(**sent)
    assert passes(check_sign_in, found) is sign_in
    assert passes(lambda h: check_page(h, SECRET), found | {b"x-csrf-token": TOKEN}) is page


@pytest.mark.parametrize("token", [None, b"", TOKEN[:-1], TOKEN + b"=", csrf_token("t").encode()])
def test_a_page_without_its_sessions_token_does_not_act(token: bytes | None):
    found = headers(sec_fetch_site="same-origin")
    if token is not None:
        found[b"x-csrf-token"] = token
    assert not passes(lambda h: check_page(h, SECRET), found)


@pytest.mark.parametrize(
    ("origin", "keeps"),
    [
        ("http://localhost:8001", True),
        ("http://yard.localhost", True),
        ("http://127.0.0.1:8001", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8001", True),
        ("https://yard.example", True),
        ("http://yard.example:8001", False),
        ("http://10.0.0.5:8001", False),
        ("http://localhost.example", False),
    ],
)
def test_who_signs_in_where_the_cookie_is_not_kept_is_told_so(origin: str, keeps: bool):
    found = headers(origin=origin, host=origin.partition("//")[2])
    if keeps:
        check_sign_in(found)
        return
    with pytest.raises(BadRequestError, match=r"over https, or through a tunnel \(ssh -L"):
        check_sign_in(found)


def passes(check, found: dict[bytes, bytes]) -> bool:
    try:
        check(found)
    except CsrfError:
        return False
    return True


def test_a_bucket_gives_its_burst_and_then_one_after_another():
    buckets = Buckets(burst=3, every_s=10)
    assert [buckets.take("a", 100.0) for _ in range(4)] == [0, 0, 0, 10]
    assert buckets.take("b", 100.0) == 0, "others have their own"
    assert buckets.take("a", 104.0) == 6
    assert buckets.take("a", 110.0) == 0
    assert buckets.take("a", 110.0) == 10
    buckets.give_back("a")
    assert buckets.take("a", 110.0) == 0
    assert [buckets.take("a", 1e6) for _ in range(4)] == [0, 0, 0, 10], "never more than a burst"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30), st.booleans()), max_size=60),
)
def test_no_window_holds_more_tries_than_a_bucket_allows(tries: list[tuple[str, float, bool]]):
    buckets, now, taken = Buckets(burst=4, every_s=10), 0.0, []
    for key, pause_s, was_right in tries:
        now += pause_s
        if buckets.take(key, now) == 0:
            if was_right:
                buckets.give_back(key)
            else:
                taken.append((key, now))
    for key, start in taken:
        window = [at for other, at in taken if other == key and start <= at <= start + 100]
        assert len(window) <= 4 + 100 // 10


def test_the_memory_of_buckets_is_bounded():
    buckets = Buckets(burst=1, every_s=10, keys_max=100)
    for key in range(1000):
        assert buckets.take(key, 0.0) == 0
    assert len(buckets) == 100
    assert buckets.take(999, 0.0) > 0
