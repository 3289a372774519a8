"""What `up` tells at its end."""

import pytest

from gateway.up.screen import Screen
from registry.settings import load


def test_up_says_where_the_console_is_and_how_to_sign_in_and_shows_no_admin_key(
    capsys: pytest.CaptureFixture[str],
):
    settings = load({"MODELYARD_HOME": "/srv/yard", "MODELYARD_ADMIN_PORT": "8101"})
    Screen().ready(settings, "mk-inference", {})
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "Console" in line)
    assert "http://127.0.0.1:8101" in line
    assert "/srv/yard/admin.token" in line
