"""`accounts`, and admin keys that may only look, against a real admin API."""

import json

import pytest
from admin_world import served
from test_cli_commands import Cli

from registry.cli.accounts import ROLES
from registry.state import AccessRole

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("cli-accounts")
    with served(folder) as made:
        yield Cli(made.url, folder)


def test_the_commands_know_every_role():
    assert set(ROLES) == set(AccessRole)


def test_an_account_is_made_listed_changed_and_deleted(cli: Cli):
    nothing = cli("accounts", "list")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "accounts create" in nothing.stderr

    words = ("accounts", "create", "alice", "--role", "viewer")
    made = cli(*words, stdin=f"{PASSWORD}\n{PASSWORD}\n")
    assert (made.exit_code, made.stdout) == (0, "account/alice (viewer) created\n"), made.stderr
    assert PASSWORD not in made.output
    assert cli(*words, "--password-stdin", stdin=PASSWORD).exit_code == 5
    (item,) = json.loads(cli("accounts", "list", "-o", "json").stdout)["items"]
    assert (item["name"], item["role"]) == ("alice", "viewer")
    assert cli("accounts", "list").stdout.splitlines()[1].split()[:2] == ["alice", "viewer"]

    changed = cli("accounts", "set-password", "alice", "--password-stdin", stdin=PASSWORD + "!\n")
    assert changed.stdout == "account/alice has its new password\n"
    assert cli("accounts", "delete", "alice").stdout == "account/alice deleted\n"
    assert cli("accounts", "delete", "alice").exit_code == 4


def test_a_password_is_no_argument_and_typed_alike_twice(cli: Cli):
    words = ("accounts", "create", "bob", "--role", "admin")
    assert cli(*words, PASSWORD).exit_code == 2
    assert cli(*words, "--password", PASSWORD).exit_code == 2
    assert cli(*words, stdin=f"{PASSWORD}\nanother\n").exit_code == 130
    short = cli(*words, "--password-stdin", stdin="short\n")
    assert (short.exit_code, "12 to 256 characters" in short.stderr) == (1, True)
    assert cli("accounts", "list").stdout == ""


def test_a_key_that_may_only_look(cli: Cli):
    assert cli("keys", "create", "v", "--role", "viewer").exit_code == 2, "only of an admin key"
    made = cli("keys", "create", "watcher", "--admin", "--role", "viewer")
    assert made.stdout.startswith("mka-")
    assert "for the admin API, to look" in made.stderr
    (line,) = (line for line in cli("get", "keys").stdout.splitlines() if "watcher" in line)
    assert "admin (viewer)" in line
    looking = {"MODELYARD_ADMIN_TOKEN": made.stdout.strip()}
    assert cli("get", "models", **looking).exit_code == 0
    refused = cli("cordon", "local", **looking)
    assert (refused.exit_code, "needs the admin role" in refused.stderr) == (1, True)
