"""What gateways tell of their traffic and their demand."""

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.tables.base import Base


class TrafficRow(Base):
    """How one gateway process served within a few seconds. *ttft*, *tpot* and *e2e* are Latencies
    as JSON. Kept for an hour.
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
    e2e: Mapped[str] = mapped_column(server_default="{}")


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
