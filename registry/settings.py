"""The one settings object: MODELYARD_* environment variables over defaults.

Raises SettingsError naming the variable and what is allowed.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from registry.database_url import with_driver
from registry.explain import SEPARATOR, explain
from registry.spec.placement import check_label

PREFIX = "MODELYARD_"
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}")
# Of letters as labels are, but for '/': it parts a node from its device, and words of a URL.
_NODE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_ALLOWED = {
    "port": (0, 65_535),
    "admin_port": (0, 65_535),
    "gateway_workers": (1, 256),
    "cpu_slots": (0, 1024),
    "node_lost_s": (5, 86_400),
    "usage_journal_bytes_max": (2**22, 2**50),
    "traces_sample_ratio": (0, 1),
}


class SettingsError(Exception):
    """A MODELYARD_* variable that cannot be used."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every knob of the processes; a model's own knobs are in its spec.

    ``MODELYARD_HOME=/srv/my`` sets *home*, and so on for each field.
    """

    home: Path = Path("~/.modelyard")
    database_url: str = ""  # postgresql://…, shared by several machines; empty: SQLite under home
    runtimes_dir: Path | None = None  # default: home/runtimes
    models_dir: Path | None = None  # default: home/models
    host: str = "127.0.0.1"
    port: int = 8000
    gateway_workers: int = 1  # processes that serve inference, on one port
    admin_host: str = "127.0.0.1"
    admin_port: int = 8001
    admin_url: str = ""  # where the CLI finds the admin API; empty: admin_host:admin_port
    admin_token: str = ""  # the CLI's credential; empty: read from home/admin.token
    api_key: str = ""  # an inference key to accept; empty: one is made once
    usage_journal_bytes_max: int = 2**30  # of each gateway process, while the registry is away
    cluster: Literal["local", "ray"] = "local"  # which machines workers run on
    # host:port of the Ray cluster's head; auto: of the cluster that this machine is in
    ray_address: str = "auto"
    node_name: str = "local"  # on Ray: the host's name
    node_labels: str = ""  # of this machine, as in "zone=a,fabric=ib0"
    fake_gpus: Path | None = None  # for tests: a file that says which GPUs there are
    cpu_slots: int = 0  # CPU slots to offer; 0: by the machine's memory
    node_lost_s: float = 30.0  # without an answer, after which a node's workers are replaced
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    traces_url: str = ""  # where the gateway sends traces, by OTLP over HTTP; empty: none
    traces_sample_ratio: float = 1.0  # of the requests that come without a trace of their own

    def __post_init__(self) -> None:
        for field, (lowest, highest) in _ALLOWED.items():
            value = getattr(self, field)
            if not lowest <= value <= highest:
                raise ValueError(f"{field}{SEPARATOR}is {value}, allowed is {lowest} to {highest}")
        try:
            with_driver(self.database)
        except ValueError as error:
            raise ValueError(f"database_url{SEPARATOR}{error}") from None
        if self.ray_address != "auto" and not _HOST_AND_PORT.fullmatch(self.ray_address):
            raise ValueError(
                f"ray_address{SEPARATOR}must be host:port of a Ray cluster's head, such as "
                "10.0.0.1:6379, or auto"
            )
        if self.traces_url and not self.traces_url.startswith(("http://", "https://")):
            raise ValueError(
                f"traces_url{SEPARATOR}must be the http:// or https:// URL of an OTLP/HTTP "
                "endpoint, such as http://127.0.0.1:4318/v1/traces"
            )
        if not _NODE_NAME.fullmatch(self.node_name):
            raise ValueError(
                f"node_name{SEPARATOR}is {self.node_name[:80]!r}, allowed are 1 to 128 letters, "
                "digits, '.', '_', '-', beginning and ending with a letter or digit"
            )
        _labels(self.node_labels)

    def __repr__(self) -> str:  # tokens must not reach a log
        return f"<Settings home={self.home}>"

    @property
    def database(self) -> str:
        return with_driver(self.database_url or f"sqlite:///{self.home / 'modelyard.db'}")

    @property
    def runtimes(self) -> Path:
        return self.runtimes_dir or self.home / "runtimes"

    @property
    def models(self) -> Path:
        return self.models_dir or self.home / "models"

    @property
    def labels(self) -> dict[str, str]:
        """What the operator says of this machine."""
        return _labels(self.node_labels)

    @property
    def workers(self) -> Path:
        return self.home / "workers"

    @property
    def usage(self) -> Path:
        """Where gateway processes keep what is not in the registry yet."""
        return self.home / "usage"

    @property
    def admin_token_file(self) -> Path:
        return self.home / "admin.token"

    @property
    def api_key_file(self) -> Path:
        return self.home / "api.key"

    @property
    def admin(self) -> str:
        return self.admin_url or f"http://{self.admin_host}:{self.admin_port}"


def _labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    for part in text.split(",") if text else ():
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not value or key in labels:
            raise ValueError(
                f"node_labels{SEPARATOR}must be key=value pairs with a comma between, each key "
                "once, such as zone=a,fabric=ib0"
            )
        check_label("node_labels", key, value)
        labels[key] = value
    return labels


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
        field, message = explain(error, Settings, given)
        name = f"{PREFIX}{field.upper()}: " if field else ""
        raise SettingsError(name + message) from None
    return msgspec.structs.replace(settings, home=settings.home.expanduser().absolute())


def _path(kind: type, value: object) -> object:
    assert kind is Path, kind
    return Path(str(value)).expanduser().absolute()
