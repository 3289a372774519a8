"""`keys`: who may use the gateway."""

from typing import Any

import click

from registry.cli.api import path
from registry.cli.command import Duration, Session, admin_url_option, output_option, pass_session
from registry.cli.complete import key_ids, model_names
from registry.cli.exits import clean
from registry.cli.output import emit, until

PRIORITIES = ("high", "normal", "low")  # `registry.state.Priority`, which takes 0.1 s to import


@click.group()
def keys() -> None:
    """Make and revoke API keys."""


@keys.command()
@click.argument("name")
@click.option(
    "--model",
    "models",
    multiple=True,
    shell_complete=model_names,
    help="A model the key may use; repeat for several (default: all).",
)
@click.option(
    "--expires", "expires_in_s", type=Duration(), help="How long it is good for, as in 30d."
)
@click.option(
    "--priority",
    type=click.Choice(PRIORITIES),
    help="Whose requests go first where a model's queue (default: normal).",
)
@click.option("--admin", is_flag=True, help="A key for the admin API instead of inference.")
@admin_url_option
@output_option
@pass_session
def create(
    session: Session,
    name: str,
    *,
    models: tuple[str, ...],
    expires_in_s: int | None,
    priority: str | None,
    admin: bool,
    output: str,
) -> None:
    """Make a key. Its secret is printed this once, alone on stdout:

    KEY=$(modelyard keys create my-app)
    """
    body: dict[str, Any] = {"name": name, "kind": "admin" if admin else "inference"}
    if models:
        body["models"] = list(models)
    if expires_in_s is not None:
        body["expires_in_s"] = expires_in_s
    if priority is not None:
        body["priority"] = priority
    with session.api() as api:
        answer = api.post("/keys", body)
    if emit(answer, output):
        return
    key = answer.data["key"]
    allowed = ", ".join(key["models"]) or "all models"
    about = "the admin API" if admin else clean(allowed)
    click.echo(
        f"key {key['id']} for {about}, expires {until(key['expires_at'])}; "
        "its secret, shown only now:",
        err=True,
    )
    click.echo(answer.data["secret"])


@keys.command()
@click.argument("key_id", metavar="ID", shell_complete=key_ids)
@admin_url_option
@pass_session
def revoke(session: Session, key_id: str) -> None:
    """Make a key useless, at once and for good."""
    with session.api() as api:
        answer = api.delete(path("keys", key_id))
    click.echo(f"key/{answer.data['id']} ({clean(answer.data['name'])}) revoked")
