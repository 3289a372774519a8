"""The keys that `up` keeps in files."""

from pathlib import Path

import pytest
from registry_world import ME

from gateway.credentials import ensure_admin_token, ensure_api_key
from registry.keys import digest
from registry.settings import Settings
from registry.store import Store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


async def test_a_secret_is_made_once_and_kept_privately(store: Store, settings: Settings) -> None:
    token = await ensure_admin_token(store, settings)
    assert await ensure_admin_token(store, settings) == token
    assert settings.admin_token_file.stat().st_mode & 0o777 == 0o600
    (key,) = await store.keys()
    assert key.digest == digest(token)


@pytest.mark.parametrize("overlap_s", [0, 3600])
async def test_a_secret_that_was_rotated_away_is_replaced_and_not_brought_back(
    store: Store, settings: Settings, overlap_s: int
) -> None:
    old = await ensure_api_key(store, settings)
    (key,) = await store.keys()
    _, rotated = await store.rotate_key(key.id, overlap_s=overlap_s, by=ME)
    fresh = await ensure_api_key(store, settings)

    assert fresh not in (old, rotated)
    assert await ensure_api_key(store, settings) == fresh
    assert {each.digest for each in await store.keys()} == {digest(rotated), digest(fresh)}
