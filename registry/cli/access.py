"""`keys`: who may use the gateway, and how much."""

from typing import Any

import click

from registry.cli.accounts import ROLES
from registry.cli.api import Answer, path
from registry.cli.command import Duration, Session, admin_url_option, output_option, pass_session
from registry.cli.complete import key_ids, model_names
from registry.cli.exits import clean
from registry.cli.limits import limit_options, limits_body, limits_text
from registry.cli.output import emit, until

PRIORITIES = ("high", "normal", "low")  # `registry.state.Priority`, which takes 0.1 s to import


@click.group()
def keys() -> None:
    """Make, change, rotate and revoke API keys."""


_model_option = click.option(
    "--model",
    "models",
    multiple=True,
    shell_complete=model_names,
    help="A model the key may use; repeat for several (a new key: all).",
)
_priority_option = click.option(
    "--priority",
    type=click.Choice(PRIORITIES),
    help="Whose requests go first where a model's queue (a new key: normal).",
)


@keys.command()
@click.argument("name")
@_model_option
@click.option(
    "--expires", "expires_in_s", type=Duration(), help="How long it is good for, as in 30d."
)
@_priority_option
@limit_options
@click.option("--admin", is_flag=True, help="A key for the admin API instead of inference.")
@click.option(
    "--role", type=click.Choice(ROLES), help="Of an admin key: to look, or all (default: admin)."
)
@admin_url_option
@output_option
@pass_session
def create(
    session: Session,
    /,
    name: str,
    *,
    models: tuple[str, ...],
    expires_in_s: int | None,
    priority: str | None,
    admin: bool,
    role: str | None,
    output: str,
    **limits: Any,
) -> None:
    """Make a key. Its secret is printed this once, alone on stdout:

    KEY=$(modelyard keys create my-app)
    """
    if role is not None and not admin:
        raise click.UsageError("--role is of an admin key: say --admin, too")
    body: dict[str, Any] = {"name": name, "kind": "admin" if admin else "inference"}
    wishes = {"models": list(models), "limits": limits_body(limits), "role": role}
    body |= {field: value for field, value in wishes.items() if value}
    if expires_in_s is not None:
        body["expires_in_s"] = expires_in_s
    if priority is not None:
        body["priority"] = priority
    with session.api() as api:
        answer = api.post("/keys", body)
    if not emit(answer, output):
        _show_secret(answer)


@keys.command()
@click.argument("key_id", metavar="ID", shell_complete=key_ids)
@click.option("--name", help="What it is called from now on.")
@_model_option
@click.option("--all-models", is_flag=True, help="It may use every model.")
@_priority_option
@limit_options
@click.option(
    "--expires",
    "expires_in_s",
    type=Duration(),
    help="How long it is good for from now, as in 30d.",
)
@click.option("--never-expires", is_flag=True, help="It is good until it is revoked.")
@admin_url_option
@output_option
@pass_session
def update(
    session: Session,
    /,
    key_id: str,
    *,
    name: str | None,
    models: tuple[str, ...],
    all_models: bool,
    priority: str | None,
    expires_in_s: int | None,
    never_expires: bool,
    output: str,
    **limits: Any,
) -> None:
    """Change a key; its secret and what is not named stay as they are. `none` lifts a limit:

    modelyard keys update ID --requests-per-minute none --budget 40/month
    """
    if models and all_models:
        raise click.UsageError("--model and --all-models exclude each other")
    if never_expires and expires_in_s is not None:
        raise click.UsageError("--expires and --never-expires exclude each other")
    wishes = {
        "name": name,
        "models": list(models) if models or all_models else None,
        "priority": priority,
        "limits": limits_body(limits) or None,
        "expires_in_s": expires_in_s,
    }
    body: dict[str, Any] = {field: value for field, value in wishes.items() if value is not None}
    if never_expires:
        body["expires_at"] = None
    if not body:
        raise click.UsageError("say what to change, as with --budget 25/month")
    with session.api() as api:
        answer = api.patch(path("keys", key_id), body, {})
    if not emit(answer, output):
        click.echo(f"key/{answer.data['id']} ({clean(answer.data['name'])}) updated")


@keys.command()
@click.argument("key_id", metavar="ID", shell_complete=key_ids)
@click.option(
    "--overlap",
    "overlap_s",
    type=Duration(),
    help="How long the old secret stays good beside the new one, as in 24h (default: not at all).",
)
@admin_url_option
@output_option
@pass_session
def rotate(session: Session, key_id: str, *, overlap_s: int | None, output: str) -> None:
    """Give a key a new secret, printed this once, alone on stdout. The key stays the same one, with
    its limits and its usage:

    KEY=$(modelyard keys rotate ID --overlap 24h)

    Rotating again ends a secret that still overlaps.
    """
    with session.api() as api:
        answer = api.post(path("keys", key_id, "rotate"), {"overlap_s": overlap_s or 0})
    if not emit(answer, output):
        _show_secret(answer)


def _show_secret(answer: Answer) -> None:
    """Alone on stdout; what the key is for goes to people."""
    key = answer.data["key"]
    about = "the admin API" if key["role"] != "viewer" else "the admin API, to look"
    if key["kind"] != "admin":
        about = clean(", ".join(key["models"])) or "all models"
    facts = [f"key {key['id']} for {about}", f"expires {until(key['expires_at'])}"]
    if limits := limits_text(key["limits"]):
        facts.append(f"at most {limits}")
    if key["old_secret_until"]:
        facts.append(f"its old secret ends {until(key['old_secret_until'])}")
    click.echo(f"{', '.join(facts)}; its secret, shown only now:", err=True)
    click.echo(answer.data["secret"])


@keys.command()
@click.argument("key_id", metavar="ID", shell_complete=key_ids)
@admin_url_option
@pass_session
def revoke(session: Session, key_id: str) -> None:
    """Make a key useless, at once and for good, with every secret it has."""
    with session.api() as api:
        answer = api.delete(path("keys", key_id))
    click.echo(f"key/{answer.data['id']} ({clean(answer.data['name'])}) revoked")
