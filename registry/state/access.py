"""Who may use the admin API, beside keys: people's accounts, and browsers that are signed in."""

from enum import StrEnum

from registry.state.value import Value


class AccessRole(StrEnum):
    """What one may do in the admin API: look, or everything."""

    VIEWER = "viewer"
    ADMIN = "admin"


class Account(Value, frozen=True, kw_only=True):
    """A person's. *password_hash* says itself how it was made."""

    name: str
    role: AccessRole
    password_hash: str
    created_at: float
    updated_at: float  # when the password was last set

    @property
    def actor(self) -> str:
        """As whom its sessions act: no key and no part of Modelyard is called so."""
        return account_actor(self.name)

    def __repr__(self) -> str:  # hashes are nobody's business
        return f"<Account {self.name}>"


def account_actor(name: str) -> str:
    return f"account:{name}"


class Session(Value, frozen=True, kw_only=True):
    """A browser that is signed in, by the *account* or by the admin key *key_id*; the other one is
    empty. *digest* is the SHA-256 of what its cookie holds.
    """

    digest: bytes
    actor: str
    role: AccessRole
    account: str
    key_id: str
    created_at: float
    seen_at: float
    expires_at: float

    def __repr__(self) -> str:
        return f"<Session of {self.actor}>"
