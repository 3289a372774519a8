"""What several folders of tests share: one PostgreSQL server a session, if any test asks for it."""

from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.make()
        yield server
    finally:
        server.end()
