"""The one settings object: MODELYARD_* environment variables over defaults.

Raises SettingsError naming the variable and what is allowed.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

PREFIX = "MODELYARD_"


class SettingsError(Exception):
    """A MODELYARD_* variable that cannot be used."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every knob of the processes; a model's own knobs are in its spec.

    ``MODELYARD_HOME=/srv/my`` sets *home*, and so on for each field.
    """

    home: Path = Path("~/.modelyard")
    database_url: str = ""  # empty: SQLite under home
    runtimes_dir: Path | None = None  # default: home/runtimes
    models_dir: Path | None = None  # default: home/models
    host: str = "127.0.0.1"
    port: int = 8000
    admin_host: str = "127.0.0.1"
    admin_port: int = 8001
    admin_url: str = ""  # where the CLI finds the admin API; empty: admin_host:admin_port
    admin_token: str = ""  # the CLI's credential; empty: read from home/admin.token
    api_key: str = ""  # an inference key to accept; empty: one is made once
    node_name: str = "local"
    cpu_slots: int = 0  # CPU slots to offer; 0: by the machine's memory
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        for field in ("port", "admin_port"):
            if not 0 <= getattr(self, field) <= 65_535:
                raise ValueError(f"{PREFIX}{field.upper()} must be 0 to 65535")
        if not 0 <= self.cpu_slots <= 1024:
            raise ValueError(f"{PREFIX}CPU_SLOTS must be 0 to 1024")

    def __repr__(self) -> str:  # tokens must not reach a log
        return f"<Settings home={self.home}>"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.home / 'modelyard.db'}"

    @property
    def runtimes(self) -> Path:
        return self.runtimes_dir or self.home / "runtimes"

    @property
    def models(self) -> Path:
        return self.models_dir or self.home / "models"

    @property
    def workers(self) -> Path:
        return self.home / "workers"

    @property
    def admin_token_file(self) -> Path:
        return self.home / "admin.token"

    @property
    def api_key_file(self) -> Path:
        return self.home / "api.key"

    @property
    def admin(self) -> str:
        return self.admin_url or f"http://{self.admin_host}:{self.admin_port}"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings from *environ* (default: the process's own)."""
    environ = os.environ if environ is None else environ
    given = {
        field.name: environ[PREFIX + field.name.upper()]
        for field in msgspec.structs.fields(Settings)
        if environ.get(PREFIX + field.name.upper())
    }
    try:
        settings = msgspec.convert(given, Settings, strict=False, dec_hook=_path)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(_name_variable(str(error))) from None
    return msgspec.structs.replace(settings, home=settings.home.expanduser().absolute())


def _path(kind: type, value: object) -> object:
    assert kind is Path, kind
    return Path(str(value)).expanduser().absolute()


def _name_variable(message: str) -> str:
    text, separator, path = message.partition(" - at `$.")
    return f"{PREFIX}{path.removesuffix('`').upper()}: {text}" if separator else text
