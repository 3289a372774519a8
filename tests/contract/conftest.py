"""The registry behind a real admin API, and a client of it, for tests that ask no more of it."""

from pathlib import Path

import pytest
from admin_world import World, world


@pytest.fixture
async def admin(tmp_path: Path):
    async with world(tmp_path) as made:
        yield made


@pytest.fixture
async def client(admin: World):
    async with admin.client() as made:
        yield made
