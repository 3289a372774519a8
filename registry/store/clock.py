"""The time of the database, which is the same for all machines that share it."""

from sqlalchemy import ColumnElement, Double, literal
from sqlalchemy.ext.asyncio import AsyncSession

from registry import postgres


async def database_now(session: AsyncSession, machine_now: float) -> ColumnElement[float]:
    """To be selected. SQLite's clock is its one machine's."""
    connection = await session.connection()
    sqlite = connection.dialect.name == "sqlite"
    return literal(machine_now, Double) if sqlite else postgres.NOW
