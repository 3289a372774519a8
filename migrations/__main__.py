"""`python -m migrations "add a column"`: writes the next migration from what the tables became.

Compares `registry.tables` with a fresh SQLite database at head, so it needs no other database.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from alembic import command
from sqlalchemy import Connection

from registry import db, schema


async def write_next(message: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'head.db'}"
        await db.upgrade(url)
        engine = db.connect(url)
        try:
            async with db.writer(engine).begin() as connection:
                await connection.run_sync(_autogenerate, message)
        finally:
            await engine.dispose()


def _autogenerate(connection: Connection, message: str) -> None:
    made = schema.config()
    made.attributes["connection"] = connection
    number = len(list(Path(__file__).with_name("versions").glob("*.py"))) + 1
    command.revision(made, message=message, autogenerate=True, rev_id=f"{number:04d}")


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and its one argument
        sys.exit('usage: python -m migrations "what changes"')
    asyncio.run(write_next(sys.argv[1]))
