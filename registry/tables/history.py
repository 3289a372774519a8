"""What happened, and who did it."""

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.tables.base import Base, Serial


class EventRow(Base):
    """What happened. The newest *id* is the version of everything."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "model", "id"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(String(32))
    model: Mapped[str]
    worker: Mapped[str]
    node: Mapped[str]
    message: Mapped[str]


class AuditRow(Base):
    """Who changed what. Only ever added to."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    at: Mapped[float]
    actor: Mapped[str]
    action: Mapped[str] = mapped_column(String(32))
    object: Mapped[str]
    before_revision: Mapped[int | None]
    after_revision: Mapped[int | None]
    request_id: Mapped[str]
    client_ip: Mapped[str]
