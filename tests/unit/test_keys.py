import base64

import pytest

from registry.errors import SpecError
from registry.keys import SECRET_CHARS_MAX, check_secret, digest, new_key_id, new_secret
from registry.state import KeyKind


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
