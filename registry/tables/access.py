"""Keys, accounts and sessions, what keys spent, and what was used."""

from sqlalchemy import BigInteger, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.state import AccessRole, Priority
from registry.tables.base import Base, Serial


class KeyRow(Base):
    """*digest* is the SHA-256 of a secret that is nowhere stored, *old_digest* that of the one
    before it; *limits* a KeyLimits as JSON.
    """

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(String(16))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    models: Mapped[str]  # JSON list
    priority: Mapped[str] = mapped_column(String(16), server_default=Priority.NORMAL)
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]
    limits: Mapped[str] = mapped_column(server_default="{}")
    old_digest: Mapped[bytes | None] = mapped_column(LargeBinary(32), index=True)
    old_expires_at: Mapped[float | None]
    role: Mapped[str] = mapped_column(String(16), server_default=AccessRole.ADMIN)


class AccountRow(Base):
    """A person who may use the admin API; *password_hash* is argon2id's."""

    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str]
    created_at: Mapped[float]
    updated_at: Mapped[float]


class SessionRow(Base):
    """A browser that is signed in; *digest* is the SHA-256 of a secret that is nowhere stored. One
    of *account* and *key_id* is empty.
    """

    __tablename__ = "sessions"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    actor: Mapped[str] = mapped_column(String(96), index=True)
    role: Mapped[str] = mapped_column(String(16))
    account: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[float]
    seen_at: Mapped[float]
    expires_at: Mapped[float]


class SpendingRow(Base):
    """What a key's requests of a period have cost; *period* is ``2026-11``, ``2026-11-26`` or
    ``total``. Written in the transaction that records the usage it sums up.
    """

    __tablename__ = "spending"

    key_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    period: Mapped[str] = mapped_column(String(16), primary_key=True)
    cost_nano: Mapped[int] = mapped_column(BigInteger)


class UsageRow(Base):
    """One request that was let in. Unique, so that a batch sent twice counts once."""

    __tablename__ = "usage"
    __table_args__ = (
        UniqueConstraint("request_id", "key_id", "opened_at"),
        Index(None, "key_id", "closed_at"),
        Index(None, "closed_at"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    request_id: Mapped[str] = mapped_column(String(128))
    key_id: Mapped[str] = mapped_column(String(32))
    model: Mapped[str] = mapped_column(String(64))
    variant: Mapped[str] = mapped_column(String(64))
    revision: Mapped[int]
    mode: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16))
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    opened_at: Mapped[float]
    closed_at: Mapped[float]
    operation: Mapped[str] = mapped_column(String(32), server_default="")
    cost_nano: Mapped[int] = mapped_column(BigInteger, server_default="0")
