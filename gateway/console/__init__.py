"""The web console as it was built from `web/`, and what serves it beside the admin API."""

from gateway.console.assets import Build, read_build
from gateway.console.front import Front

__all__ = ["Build", "Front", "read_build"]
