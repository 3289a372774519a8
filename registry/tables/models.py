"""Models, their revisions, and the ways between these."""

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

_UNDER_WAY = text("ended_at IS NULL")


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


class RolloutTrafficRow(Base):
    """What clients had of a variant of *revision*, one of the two of a rollout, since it gave the
    new one *percent*. *ttft* and *tpot* are Latencies as JSON.
    """

    __tablename__ = "rollout_traffic"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model", "to_revision"],
            ["rollouts.model", "rollouts.to_revision"],
            name="fk_rollout_traffic_rollouts",
        ),
    )

    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    to_revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    variant: Mapped[str] = mapped_column(String(64), primary_key=True)
    percent: Mapped[int]
    since: Mapped[float]
    until: Mapped[float]
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    ttft: Mapped[str]
    tpot: Mapped[str]


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


class ProfileRow(Base):
    """How long steps were measured to take: *points* are LoadPoints as JSON."""

    __tablename__ = "profiles"
    __table_args__ = (
        UniqueConstraint(
            "source", "engine", "device_model", "devices", name="uq_profiles_measured"
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    source: Mapped[str] = mapped_column(String(1024))
    engine: Mapped[str] = mapped_column(String(32))
    device_model: Mapped[str] = mapped_column(String(128))
    devices: Mapped[int]
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    variant: Mapped[str] = mapped_column(String(64))
    runtime: Mapped[str]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    batched_tokens: Mapped[int]
    kv_tokens: Mapped[int] = mapped_column(BigInteger)
    is_kv_told: Mapped[bool]
    points: Mapped[str]
    measured_at: Mapped[float]
    measured_by: Mapped[str]


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
