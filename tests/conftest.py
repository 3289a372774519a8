"""What several folders of tests share: one PostgreSQL server a session, if any test asks for it."""

from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer

from registry import postgres as pg


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Stores of this process keep their transactions for as long as a busy machine holds it up."""
    server = PostgresServer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pg, "IDLE_IN_TRANSACTION_S_MAX", 60)
        try:
            server.make()
            yield server
        finally:
            server.end()
