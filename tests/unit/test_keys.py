import base64

import pytest

from registry.errors import SpecError
from registry.keys import (
    SECRET_CHARS_MAX,
    by_digest,
    check_secret,
    digest,
    new_key_id,
    new_secret,
)
from registry.state import Key, KeyKind


@pytest.mark.parametrize(("kind", "prefix"), [(KeyKind.INFERENCE, "mk-"), (KeyKind.ADMIN, "mka-")])
def test_a_secret_has_256_random_bits_behind_its_prefix(kind: KeyKind, prefix: str) -> None:
    secrets = {new_secret(kind) for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith(prefix)
        assert len(base64.urlsafe_b64decode(secret.removeprefix(prefix) + "=")) == 32
        check_secret(secret)


def test_a_digest_is_the_sha256_of_the_whole_secret() -> None:
    assert digest("abc").hex().startswith("ba7816bf8f01cfea414140de5dae2223")
    assert len(digest("")) == len(digest("a" * 100_000)) == 32
    assert digest("mk-a") != digest("mka-a")
    assert len(digest("\udcff")) == 32  # what ASGI servers make of a byte that is not UTF-8


def test_a_key_id_is_key_and_eight_hex_digits() -> None:
    ids = {new_key_id() for _ in range(50)}
    assert len(ids) == 50
    assert all(len(i) == 12 and int(i.removeprefix("key_"), 16) >= 0 for i in ids)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "short",
        "with space in it",
        "tab\tinside-it",
        "line\nbreak-in",
        "ümlaut-secret",
        "é" * 20,
    ],
)
def test_a_secret_that_no_header_carries_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(SpecError) as refused:
        check_secret(secret)
    assert refused.value.field == "secret"
    assert not secret or secret not in str(refused.value)


def test_a_secret_has_a_longest_length() -> None:
    check_secret("a" * SECRET_CHARS_MAX)
    with pytest.raises(SpecError):
        check_secret("a" * (SECRET_CHARS_MAX + 1))


def a_rotated_key(**changes: object) -> Key:
    facts = {
        "id": "key_1",
        "name": "app",
        "kind": KeyKind.INFERENCE,
        "digest": digest("mk-new"),
        "models": (),
        "created_at": 0.0,
        "expires_at": None,
        "revoked_at": None,
        "old_digest": digest("mk-old"),
        "old_expires_at": 50.0,
    }
    return Key(**(facts | changes))


@pytest.mark.parametrize(("key_ends_at", "old_ends_at"), [(None, 50.0), (90.0, 50.0), (20.0, 20.0)])
def test_both_secrets_of_a_rotated_key_open_it_each_until_its_end(
    key_ends_at: float | None, old_ends_at: float
) -> None:
    key = a_rotated_key(expires_at=key_ends_at)
    found = by_digest([key], KeyKind.INFERENCE)
    assert found[digest("mk-new")] == key
    old = found[digest("mk-old")]
    assert (old.id, old.limits, old.expires_at) == (key.id, key.limits, old_ends_at)


def test_a_revoked_key_has_no_secret_and_neither_has_one_of_the_other_listener() -> None:
    assert by_digest([a_rotated_key(revoked_at=1.0)], KeyKind.INFERENCE) == {}
    assert by_digest([a_rotated_key()], KeyKind.ADMIN) == {}


def test_a_present_secret_goes_before_an_old_one() -> None:
    taken = a_rotated_key(id="key_2", digest=digest("mk-old"), old_digest=None)
    for keys in ([a_rotated_key(), taken], [taken, a_rotated_key()]):
        assert by_digest(keys, KeyKind.INFERENCE)[digest("mk-old")] == taken
