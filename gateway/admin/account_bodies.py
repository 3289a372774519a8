"""What clients send about people: who signs in, and accounts."""

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from gateway.admin.bodies import ModelName, documented_as
from registry.passwords import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN
from registry.spec.checks import refuse
from registry.state import AccessRole

Password = Annotated[str, documented_as(minLength=PASSWORD_CHARS_MIN, maxLength=PASSWORD_CHARS_MAX)]


class SignInBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An admin *key*, or an *account* and its *password*."""

    key: str | UnsetType = UNSET
    account: str | UnsetType = UNSET
    password: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        pair = (self.account, self.password)
        if isinstance(self.key, str) and pair != (UNSET, UNSET):
            refuse("key", "and an account are two ways to sign in: send one")
        if not isinstance(self.key, str) and UNSET in pair:
            refuse("key", "is missing: send it, or account and password")

    @property
    def account_and_password(self) -> tuple[str, str]:
        assert isinstance(self.account, str)
        assert isinstance(self.password, str)
        return self.account, self.password


class AccountBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person who may use the admin API: look (viewer), or everything (admin)."""

    name: ModelName
    role: AccessRole
    password: Password


class PasswordBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    password: Password
