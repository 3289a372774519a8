"""`quotas`: what the workers of an owner's models may hold at once."""

from typing import Any

import click
import msgspec

from registry.cli.api import path
from registry.cli.command import Session, admin_url_option, output_option, pass_session
from registry.cli.complete import owner_names
from registry.cli.exits import clean
from registry.cli.output import emit, size


@click.group()
def quotas() -> None:
    """Set and lift what owners of models may hold."""


@quotas.command("set")
@click.argument("owner", shell_complete=owner_names)
@click.option("--devices", type=click.IntRange(min=0), help="How many devices at most.")
@click.option("--memory", metavar="SIZE", help="How much of their memory at most, as in 640GiB.")
@admin_url_option
@output_option
@pass_session
def set_quota(
    session: Session, owner: str, *, devices: int | None, memory: str | None, output: str
) -> None:
    """Set the whole quota of an owner; what is not named has no limit:

    modelyard quotas set team-a --devices 8 --memory 640GiB

    What runs already goes on, above the quota too; nothing new is placed above it.
    """
    if devices is None and memory is None:
        raise click.UsageError("say --devices, --memory or both (`quotas delete` lifts it)")
    body = msgspec.json.encode({"devices": devices, "memory": memory})
    with session.api() as api:
        answer = api.put(path("quotas", owner), body, {})
    if not emit(answer, output):
        click.echo(f"quota/{clean(owner)} set: {quota_text(answer.data)}")


@quotas.command("delete")
@click.argument("owner", shell_complete=owner_names)
@admin_url_option
@pass_session
def delete_quota(session: Session, owner: str) -> None:
    """Lift an owner's quota: its models may hold what there is."""
    with session.api() as api:
        api.delete(path("quotas", owner))
    click.echo(f"quota/{clean(owner)} deleted")


def quota_text(item: dict[str, Any]) -> str:
    devices, memory = item["devices_quota"], item["memory_bytes_quota"]
    return (
        f"{held_text(str(item['devices']), devices)} devices, "
        f"{held_text(size(item['memory_bytes']), None if memory is None else size(memory))}"
    )


def held_text(held: str, quota: int | str | None) -> str:
    """``4 of 8``, or ``4`` where there is no limit."""
    return held if quota is None else f"{held} of {quota}"
