"""The tables. Values and their meaning are in `registry.state`; here is what the database guards.

Two guards are on purpose doubled by checks in `registry.store`: `devices.claimed_bytes` can't pass
the device's memory, and a slot can't have two workers of one fingerprint that are to stay.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from registry.state import Priority

# SQLite counts a primary key by itself only when it is exactly INTEGER.
_Serial = BigInteger().with_variant(Integer(), "sqlite")
_UNDER_WAY = text("ended_at IS NULL")
# A worker that leaves may have its successor beside it.
_FILLS_SLOT = text("ended_at IS NULL AND NOT departing")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: dict[Any, Any] = {float: Double(), str: Text()}  # noqa: RUF012 - SQLAlchemy's name


class ModelRow(Base):
    """*revision* is the newest one's number: it goes on counting through deletion and revival.
    *degraded* says that the condition is of workers which are all ready and yet serve badly.
    """

    __tablename__ = "models"
    __table_args__ = (CheckConstraint("revision >= 1 AND generation >= revision", name="counts"),)

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    generation: Mapped[int]
    revision: Mapped[int]
    created_at: Mapped[float]
    updated_at: Mapped[float]
    deleted: Mapped[bool]
    condition: Mapped[str]
    degraded: Mapped[bool] = mapped_column(server_default=false())


class RevisionRow(Base):
    """Written once, never changed. *spec* is the ModelSpec's JSON."""

    __tablename__ = "revisions"
    __table_args__ = (CheckConstraint("number >= 1", name="number"),)

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    spec: Mapped[str]
    created_at: Mapped[float]
    created_by: Mapped[str]


class NodeRow(Base):
    """*cordoned* and *draining* are what an operator wants, *silent* what was observed: kept apart,
    so that a cordon outlives an outage. A draining node is cordoned, too.
    """

    __tablename__ = "nodes"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    address: Mapped[str]
    cordoned: Mapped[bool]
    silent: Mapped[bool]
    device_kind: Mapped[str] = mapped_column(String(16))
    runtimes: Mapped[str]  # JSON list
    labels: Mapped[str]  # JSON object
    last_seen_at: Mapped[float]
    draining: Mapped[bool] = mapped_column(server_default=false())
    sources: Mapped[str] = mapped_column(server_default="[]")  # JSON list


class DeviceRow(Base):
    """*claimed_bytes* is the sum of its claims, held in the same transactions as they are."""

    __tablename__ = "devices"
    __table_args__ = (
        CheckConstraint("claimed_bytes >= 0 AND claimed_bytes <= memory_bytes", name="claimed"),
        UniqueConstraint("node", "kind", "index"),
    )

    id: Mapped[str] = mapped_column(String(192), primary_key=True)
    node: Mapped[str] = mapped_column(ForeignKey("nodes.name"))
    index: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    model: Mapped[str]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    claimed_bytes: Mapped[int] = mapped_column(BigInteger)
    uuid: Mapped[str] = mapped_column(server_default="")
    island: Mapped[str] = mapped_column(server_default="")
    used_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    quarantine: Mapped[str] = mapped_column(server_default="")
    overuse: Mapped[str] = mapped_column(server_default="")


class WorkerRow(Base):
    """*plan* is the WorkerPlan's JSON; the columns before it repeat what is searched for."""

    __tablename__ = "workers"
    __table_args__ = (
        ForeignKeyConstraint(["model", "revision"], ["revisions.model", "revisions.number"]),
        CheckConstraint(
            "(phase IN ('stopped', 'failed', 'lost')) = (ended_at IS NOT NULL)", name="ended"
        ),
        Index(
            "uq_workers_live_slot",
            *("model", "variant", "role", "ordinal", "fingerprint"),
            unique=True,
            sqlite_where=_FILLS_SLOT,
            postgresql_where=_FILLS_SLOT,
        ),
        Index(None, "ended_at"),
    )

    id: Mapped[str] = mapped_column(String(96), primary_key=True)
    model: Mapped[str] = mapped_column(String(64))
    revision: Mapped[int]
    variant: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    ordinal: Mapped[int]
    fingerprint: Mapped[str] = mapped_column(String(128))
    plan: Mapped[str]
    node: Mapped[str] = mapped_column(ForeignKey("nodes.name"))
    runtime: Mapped[str]
    phase: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str]
    url: Mapped[str]
    events_url: Mapped[str] = mapped_column(server_default="")  # as 0002 found rows without one
    kv_port: Mapped[int] = mapped_column(server_default="0")  # as 0004 found rows without one
    token: Mapped[str]
    created_at: Mapped[float]
    ready_at: Mapped[float | None]
    ended_at: Mapped[float | None]
    departing: Mapped[bool] = mapped_column(server_default=false())
    sleep_mode: Mapped[str] = mapped_column(String(32), server_default="")
    turned_at: Mapped[float] = mapped_column(server_default="0")


class ClaimRow(Base):
    """Only live workers have claims: they go in the transaction that ends the worker. Of one that
    sleeps it is what it still holds, which may be nothing.
    """

    __tablename__ = "claims"
    __table_args__ = (CheckConstraint("memory_bytes >= 0", name="memory"),)

    worker_id: Mapped[str] = mapped_column(ForeignKey("workers.id"), primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True, index=True)
    memory_bytes: Mapped[int] = mapped_column(BigInteger)


class QuotaRow(Base):
    """What an owner's workers may hold at once; NULL is no limit."""

    __tablename__ = "quotas"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    devices: Mapped[int | None]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)


class PoolRow(Base):
    """How the models of a pool share devices."""

    __tablename__ = "pools"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    overcommit: Mapped[float]
    awake_min_s: Mapped[float]


class RolloutRow(Base):
    """*policy* is a RolloutPolicy as JSON. At most one of a model is under way."""

    __tablename__ = "rollouts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model", "from_revision"],
            ["revisions.model", "revisions.number"],
            name="fk_rollouts_from_revisions",
        ),
        ForeignKeyConstraint(
            ["model", "to_revision"],
            ["revisions.model", "revisions.number"],
            name="fk_rollouts_to_revisions",
        ),
        CheckConstraint("from_revision < to_revision", name="forward"),
        CheckConstraint("percent >= 0 AND percent <= 100 AND step >= 0", name="step"),
        Index(
            "uq_rollouts_active",
            "model",
            unique=True,
            sqlite_where=_UNDER_WAY,
            postgresql_where=_UNDER_WAY,
        ),
    )

    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    to_revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    from_revision: Mapped[int]
    policy: Mapped[str]
    state: Mapped[str] = mapped_column(String(16))
    step: Mapped[int]
    percent: Mapped[int]
    step_at: Mapped[float]
    reason: Mapped[str]
    created_at: Mapped[float]
    ended_at: Mapped[float | None]


class ScaleRow(Base):
    """How many workers an autoscaled role is to have, by its load."""

    __tablename__ = "scales"
    __table_args__ = (CheckConstraint("workers >= 1", name="workers"),)

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    variant: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    workers: Mapped[int]
    reason: Mapped[str]
    at: Mapped[float]


class ProposalRow(Base):
    """A suggested spec, as JSON."""

    __tablename__ = "proposals"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), index=True)
    base_revision: Mapped[int]
    spec: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[float]
    created_by: Mapped[str]
    taken: Mapped[bool | None]
    decided_at: Mapped[float | None]


class TrafficRow(Base):
    """How one gateway process served within a few seconds. *ttft* and *tpot* are Latencies as JSON.
    Kept for an hour.
    """

    __tablename__ = "traffic"

    at: Mapped[float] = mapped_column(primary_key=True)
    gateway: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    variant: Mapped[str] = mapped_column(String(64), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    requests: Mapped[int]
    errors: Mapped[int]
    paired: Mapped[int]
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    ttft: Mapped[str]
    tpot: Mapped[str]


class DemandRow(Base):
    """What waits in one gateway process, as of *at*."""

    __tablename__ = "demand"

    gateway: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[float]
    queued: Mapped[int]
    queued_prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    oldest_at: Mapped[float]
    in_flight: Mapped[int]
    asked_at: Mapped[float]


class LeaseRow(Base):
    """Who leads what, for as long as it says so again in time."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str]
    epoch: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[float]


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

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
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


class EventRow(Base):
    """What happened. The newest *id* is the version of everything."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "model", "id"),)

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(String(32))
    model: Mapped[str]
    worker: Mapped[str]
    node: Mapped[str]
    message: Mapped[str]


class AuditRow(Base):
    """Who changed what. Only ever added to."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    at: Mapped[float]
    actor: Mapped[str]
    action: Mapped[str] = mapped_column(String(32))
    object: Mapped[str]
    before_revision: Mapped[int | None]
    after_revision: Mapped[int | None]
    request_id: Mapped[str]
    client_ip: Mapped[str]
