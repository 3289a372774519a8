"""Who works with a database now: other processes, and the controller that leads."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, text

_COMMAND_CHARS_MAX = 80
_SESSIONS = """
SELECT coalesce(host(client_addr), 'this machine'), count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'modelyard'
GROUP BY 1 ORDER BY 1
"""
_LEADER = "SELECT holder FROM leases WHERE name = 'controller' AND expires_at > :now"
_NOW = "SELECT extract(epoch FROM clock_timestamp())::double precision"


def users(connection: Connection, file: Path | None, *, has_leases: bool) -> tuple[str, ...]:
    """A few words for each. Of an SQLite *file* only processes that this user may look into."""
    if file is not None:
        found = [f"process {pid} ({command})" for pid, command in _openers(file)]
    else:
        sessions = connection.execute(text(_SESSIONS))
        found = [
            f"{count} connection{'s' if count > 1 else ''} of Modelyard from {address}"
            for address, count in sessions
        ]
    if has_leases:
        now = time.time() if file is not None else connection.execute(text(_NOW)).scalar()
        leaders = connection.execute(text(_LEADER), {"now": now}).scalars()
        found += [f"the controller {holder}, which leads" for holder in leaders]
    return tuple(found)


def _openers(file: Path) -> Iterator[tuple[int, str]]:
    """Other processes of this machine that have *file* open, and what they are."""
    wanted = {os.path.realpath(file), f"{os.path.realpath(file)}-wal"}
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        with suppress(OSError):  # it ended, or is somebody else's
            if any(_link(fd) in wanted for fd in (process / "fd").iterdir()):
                yield int(process.name), _command(process)


def _link(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:
        return ""


def _command(process: Path) -> str:
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    return " ".join(words[:4])[:_COMMAND_CHARS_MAX].strip()
