from pathlib import Path

import pytest

from registry.settings import Settings, SettingsError, load


def test_without_variables_everything_is_under_home() -> None:
    settings = load({})
    assert settings.home == Path("~/.modelyard").expanduser()
    assert settings.database == f"sqlite+aiosqlite:///{settings.home}/modelyard.db"
    assert settings.runtimes == settings.home / "runtimes"
    assert settings.models == settings.home / "models"
    assert settings.workers == settings.home / "workers"
    assert settings.admin_token_file.parent == settings.api_key_file.parent == settings.home
    assert settings.admin == "http://127.0.0.1:8001"


def test_variables_set_fields_of_every_type(tmp_path: Path) -> None:
    settings = load(
        {
            "MODELYARD_HOME": str(tmp_path),
            "MODELYARD_PORT": "9000",
            "MODELYARD_LOG_LEVEL": "debug",
            "MODELYARD_DATABASE_URL": "postgresql+asyncpg://db/modelyard",
            "MODELYARD_RUNTIMES_DIR": str(tmp_path / "r"),
            "MODELYARD_ADMIN_URL": "http://elsewhere:1",
            "MODELYARD_CPU_SLOTS": "",  # set but empty is not set
            "OTHER_PORT": "1",
        }
    )
    assert (settings.home, settings.port, settings.log_level) == (tmp_path, 9000, "debug")
    assert settings.database == "postgresql+asyncpg://db/modelyard"
    assert settings.runtimes == tmp_path / "r"
    assert settings.admin == "http://elsewhere:1"
    assert settings.cpu_slots == 0


def test_a_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load({"MODELYARD_HOME": "here"}).home == tmp_path / "here"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MODELYARD_PORT", "http", "is 'http', allowed is a whole number"),
        ("MODELYARD_PORT", "65536", "is 65536, allowed is 0 to 65535"),
        ("MODELYARD_PORT", "-1", "is -1, allowed is 0 to 65535"),
        ("MODELYARD_ADMIN_PORT", "80.5", "allowed is a whole number"),
        ("MODELYARD_CPU_SLOTS", "2000", "allowed is 0 to 1024"),
        ("MODELYARD_LOG_LEVEL", "loud", "allowed are debug, error, info, warning"),
    ],
)
def test_a_bad_variable_is_named_with_what_is_allowed(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({name: value})
    assert str(refused.value).startswith(f"{name}: ")
    assert allowed in str(refused.value)


@pytest.mark.parametrize("name", ["a", "gpu-1", "GPU_1.rack-7.example.org", "n" * 128])
def test_a_node_may_have_a_hosts_name(name: str) -> None:
    assert load({"MODELYARD_NODE_NAME": name}).node_name == name


@pytest.mark.parametrize(
    "name", ["n" * 129, "n" * 5000, "a/b", "..", "-n", "n.", "a b", "n\n", "n\x1b[2J", "nö"]
)
def test_a_node_name_that_no_path_or_label_could_hold_is_refused(name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({"MODELYARD_NODE_NAME": name})
    assert str(refused.value).startswith("MODELYARD_NODE_NAME: is '")
    assert "allowed are 1 to 128 letters, digits" in str(refused.value)
    assert len(str(refused.value)) < 300
    assert "\x1b" not in str(refused.value)


def test_secrets_are_in_no_repr() -> None:
    settings = Settings(admin_token="mka-secret", api_key="mk-secret")
    assert "secret" not in repr(settings)
    assert "secret" not in str(settings)
