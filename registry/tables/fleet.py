"""Nodes, devices, workers, and who may hold how much of them."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from registry.tables.base import Base

# A worker that leaves may have its successor beside it.
_FILLS_SLOT = text("ended_at IS NULL AND NOT departing")


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


class LeaseRow(Base):
    """Who leads what, for as long as it says so again in time."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str]
    epoch: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[float]
