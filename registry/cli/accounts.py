"""`accounts`: people who sign in to the console with a name and a password."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from registry.cli.api import path
from registry.cli.command import Session, admin_url_option, output_option, pass_session
from registry.cli.complete import account_names
from registry.cli.exits import clean
from registry.cli.output import ago, emit, show_rows

ROLES = ("viewer", "admin")  # `registry.state.AccessRole`, which takes 0.1 s to import

_F = TypeVar("_F", bound=Callable[..., Any])


@click.group()
def accounts() -> None:
    """Make and delete accounts of people, who sign in to the console."""


def _password_option(function: _F) -> _F:
    return click.option(
        "--password-stdin", is_flag=True, help="Read the password from stdin, one line."
    )(function)


def _password(*, from_stdin: bool) -> str:
    """Never an argument: other users of the machine see those."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    entered: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return entered


@accounts.command("list")
@admin_url_option
@output_option
@pass_session
def list_accounts(session: Session, output: str) -> None:
    """Who has an account, and what they may do."""
    with session.api() as api:
        answer = api.get("/accounts")
    if emit(answer, output):
        return
    rows = [
        (item["name"], item["role"], ago(item["created_at"]), ago(item["updated_at"]))
        for item in answer.data["items"]
    ]
    if not rows:
        click.echo("no accounts: `modelyard accounts create NAME --role viewer`", err=True)
        return
    show_rows(("NAME", "ROLE", "AGE", "PASSWORD SET"), rows)


@accounts.command()
@click.argument("name")
@click.option(
    "--role", type=click.Choice(ROLES), required=True, help="To look, or to do everything."
)
@_password_option
@admin_url_option
@output_option
@pass_session
def create(session: Session, name: str, *, role: str, password_stdin: bool, output: str) -> None:
    """Make an account. Its password is asked for twice, or read from stdin:

    modelyard accounts create alice --role viewer
    """
    password = _password(from_stdin=password_stdin)
    with session.api() as api:
        answer = api.post("/accounts", {"name": name, "role": role, "password": password})
    if not emit(answer, output):
        click.echo(f"account/{clean(name)} ({role}) created")


@accounts.command("set-password")
@click.argument("name", shell_complete=account_names)
@_password_option
@admin_url_option
@pass_session
def set_password(session: Session, name: str, *, password_stdin: bool) -> None:
    """Give an account another password; where it is signed in, it is signed out."""
    body = msgspec.json.encode({"password": _password(from_stdin=password_stdin)})
    with session.api() as api:
        api.put(path("accounts", name, "password"), body, {})
    click.echo(f"account/{clean(name)} has its new password")


@accounts.command()
@click.argument("name", shell_complete=account_names)
@admin_url_option
@pass_session
def delete(session: Session, name: str) -> None:
    """Delete an account, and sign it out."""
    with session.api() as api:
        api.delete(path("accounts", name))
    click.echo(f"account/{clean(name)} deleted")
