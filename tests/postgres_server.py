"""A PostgreSQL server of a test session's own: on loopback, with a password, without fsync."""

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import asyncpg

from registry import db

PASSWORD = "pa5sw0rd-of-the-test"
_START_S_MAX = 30
_TEMPLATE = "migrated"
_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
}


class PostgresServer:
    """Starts, stops, is killed, and makes databases that are at the newest schema."""

    def __init__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="modelyard-postgres-"))
        self._as_user = _unprivileged(self._folder)
        self._numbers = itertools.count()
        self._has_template = False
        self._process: subprocess.Popen | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def make(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # in a folder that only the server's user and we can enter
        self._run(
            *("initdb", "--pgdata", str(self._folder / "data"), "--no-sync", "--encoding=UTF8"),
            *("--locale=C", "--username=modelyard", f"--pwfile={secret}", "--auth=scram-sha-256"),
        )
        self.start()

    def start(self) -> None:
        """From the main thread: the kernel ends the server with the thread that started it."""
        assert threading.current_thread() is threading.main_thread()
        options = [text for name, value in _QUICK.items() for text in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(*self._as_user, _program("postgres"), "-D", str(self._folder / "data")),
                    *("-p", str(self.port), *options),
                ],
                stdout=log,
                stderr=log,
                cwd="/",
            )
        until = time.monotonic() + _START_S_MAX
        while not self._answers():
            log = (self._folder / "log").read_text()
            assert self._process.poll() is None, log
            assert time.monotonic() < until, log
            time.sleep(0.05)

    def _answers(self) -> bool:
        ready = [*self._as_user, _program("pg_isready"), "-q", "-h", "127.0.0.1"]
        return subprocess.run([*ready, "-p", str(self.port)], check=False).returncode == 0

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends every session at once; SIGQUIT is a crash."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(_START_S_MAX)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)

    def url(self, name: str) -> str:
        return f"postgresql+asyncpg://modelyard:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def _dsn(self, name: str) -> str:
        return self.url(name).replace("+asyncpg", "")

    async def database(self, *, migrated: bool = True) -> str:
        """The URL of a new one."""
        name = f"db{next(self._numbers)}"
        if migrated and not self._has_template:
            await self._execute(f"CREATE DATABASE {_TEMPLATE}")
            await db.upgrade(self.url(_TEMPLATE))
            self._has_template = True
        template = _TEMPLATE if migrated else "template0"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._dsn("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as_user, _program(program), *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
        )


def _program(name: str) -> str:
    """The newest of Debian's, which are not on the path, else what is."""
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    found = str(newest) if newest else shutil.which(name)
    assert found, f"no {name} on this machine: apt-get install postgresql"
    return found


def _unprivileged(folder: Path) -> list[str]:
    """The command before the server's: it does not run as root, and ends when the tests are
    killed. *folder* is given to its user.
    """
    dies_with_us = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid():
        return dies_with_us
    names = {user.pw_name for user in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*dies_with_us, *ids]
