"""`modelyard db`: what it says before it does something, and what it leaves behind."""

import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from test_cli_commands import Cli

from registry import schema


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli("http://127.0.0.1:9", tmp_path)


def test_the_database_is_made_looked_at_and_brought_back(cli: Cli, tmp_path: Path):
    assert "no database yet" in cli("db", "status").stdout
    dry = cli("db", "upgrade", "--dry-run")
    assert (dry.exit_code, dry.stdout.splitlines()[0]) == (0, f"from empty to {schema.head()}:")
    assert "  0001  The first tables\n" in dry.stdout
    assert not (tmp_path / "modelyard.db").exists()

    assert cli("db", "upgrade").stdout.endswith(f"at {schema.head()}\n")
    assert stat.S_IMODE((tmp_path / "modelyard.db").stat().st_mode) == 0o600
    assert cli("db", "upgrade").stdout == f"at {schema.head()}, nothing is to be done\n"

    back = cli("db", "downgrade", "--to", "0004")
    assert back.exit_code == 0
    behind = [version for version in schema.known_versions() if version > "0004"]
    steps = back.stdout.splitlines()[1 : 1 + len(behind)]
    assert [line.split()[0] for line in steps] == behind[::-1]
    name = re.search(r"modelyard\.db\.before-0004-\d{8}T\d{6}\.\d{6}Z", back.stdout)
    assert name
    assert stat.S_IMODE((tmp_path / name[0]).stat().st_mode) == 0o600
    status = cli("db", "status").stdout
    assert f"0004, {len(behind)} behind" in status
    assert name[0] in status
    assert "0005     Nodes drain" in status


def test_a_backup_is_a_registry_of_its_own(cli: Cli, tmp_path: Path):
    cli("db", "upgrade")
    copy = tmp_path / "copy.db"
    assert cli("db", "backup", str(copy)).stdout.startswith(f"backed up to {copy} (")
    again = cli("db", "backup", str(copy))
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)
    assert "the newest" in cli("db", "status", MODELYARD_DATABASE_URL=f"sqlite:///{copy}").stdout


def test_what_stands_in_the_way_is_said_and_nothing_is_done(cli: Cli, tmp_path: Path):
    cli("db", "upgrade")
    cli("db", "downgrade", "--to", "0005")
    for kept in tmp_path.glob("*.before-*"):
        kept.unlink()
    hold = "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1]); "
    hold += "c.execute('SELECT 1 FROM models').fetchall(); print(flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "modelyard.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline()
        dry = cli("db", "upgrade", "--dry-run")
        assert (dry.exit_code, f"process {holder.pid} (" in dry.stderr) == (1, True)
        refused = cli("db", "upgrade")
        assert (refused.exit_code, "say --in-use" in refused.stderr) == (1, True)
        assert f"process {holder.pid} (" in cli("db", "status").stdout
        assert not list(tmp_path.glob("*.before-*"))
        assert cli("db", "upgrade", "--in-use").exit_code == 0
    finally:
        holder.communicate(b"")


def test_a_half_migrated_database_is_told_by_status(cli: Cli, tmp_path: Path):
    cli("db", "upgrade")
    with closing(sqlite3.connect(tmp_path / "modelyard.db")) as connection:
        connection.execute("ALTER TABLE workers DROP COLUMN sleep_mode")
        connection.commit()
    status = cli("db", "status")
    assert (status.exit_code, "it lacks workers.sleep_mode" in status.stderr) == (1, True)
    upgrade = cli("db", "upgrade")
    assert (upgrade.exit_code, "put a backup back" in upgrade.stderr) == (1, True)


def test_wrong_words_and_places(cli: Cli):
    cli("db", "upgrade")
    wrong = cli("db", "downgrade", "--to", "0000")
    assert (wrong.exit_code, "allowed are 0001, " in wrong.stderr) == (1, True)
    broken = cli("db", "status", MODELYARD_DATABASE_URL="sqlite+aiosqlite:////proc/x/y.db")
    assert broken.exit_code in (0, 1)
    nonsense = cli("db", "upgrade", MODELYARD_DATABASE_URL="nonsense")
    assert (nonsense.exit_code, "MODELYARD_DATABASE_URL" in nonsense.stderr) == (2, True)
