"""`pools`: how models that share devices do it."""

from collections.abc import Iterator, Sequence
from typing import Any

import click
import msgspec

from registry.cli.api import path
from registry.cli.command import Session, admin_url_option, output_option, pass_session
from registry.cli.complete import pool_names
from registry.cli.exits import clean
from registry.cli.output import Cell, emit, show_rows, size

_TITLES = ("POOL", "OVERCOMMIT>", "AWAKE ≥", "DEVICE", "AWAKE", "ASLEEP", "MEMORY>", "WAITING")


@click.group()
def pools() -> None:
    """Say how models of one `pool` take turns."""


@pools.command("set")
@click.argument("name", shell_complete=pool_names)
@click.option(
    "--overcommit",
    type=click.FloatRange(1, 1000),
    default=4.0,
    show_default=True,
    help="Workers up to so many times what fits awake have a place on a device.",
)
@click.option(
    "--awake-min-s",
    type=click.FloatRange(0, 86_400),
    default=30.0,
    show_default=True,
    help="How long who has woken stays awake at least.",
)
@admin_url_option
@output_option
@pass_session
def set_pool(
    session: Session, name: str, *, overcommit: float, awake_min_s: float, output: str
) -> None:
    """Set how the models of a pool share devices; what is not named is as usual:

    modelyard pools set tail --overcommit 4 --awake-min-s 30
    """
    body = msgspec.json.encode({"overcommit": overcommit, "awake_min_s": awake_min_s})
    with session.api() as api:
        answer = api.put(path("pools", name), body, {})
    if not emit(answer, output):
        click.echo(f"pool/{clean(name)} set: overcommit {overcommit:g}, awake ≥ {awake_min_s:g} s")


@pools.command("delete")
@click.argument("name", shell_complete=pool_names)
@admin_url_option
@pass_session
def delete_pool(session: Session, name: str) -> None:
    """Give a pool the usual settings again; its models stay in it."""
    with session.api() as api:
        api.delete(path("pools", name))
    click.echo(f"pool/{clean(name)} deleted")


@click.command("pools")
@admin_url_option
@output_option
@pass_session
def get_pools(session: Session, output: str) -> None:
    """Pools: who is awake and asleep on which device, and who waits."""
    with session.api() as api:
        answer = api.get("/pools")
    if emit(answer, output):
        return
    items = answer.data["items"]
    if items:
        show_rows(_TITLES, list(_rows(items)))
    else:
        click.echo("no pools: name one with `pool` in the specs of models", err=True)


def _rows(items: Sequence[dict[str, Any]]) -> Iterator[tuple[Cell, ...]]:
    for item in items:
        waiting = {one["model"]: one["queued"] for one in item["members"] if one["queued"]}
        head = (item["name"], f"{item['overcommit']:g}", f"{item['awake_min_s']:g} s")
        placed = {name for one in item["devices"] for name in (*one["awake"], *one["asleep"])}
        for one in item["devices"]:
            here = {*one["awake"], *one["asleep"]}
            yield (
                *head,
                one["device"],
                ", ".join(one["awake"]) or "-",
                ", ".join(one["asleep"]) or "-",
                f"{size(one['claimed_bytes'])} of {size(one['memory_bytes'])}",
                _waits({name: count for name, count in waiting.items() if name in here}),
            )
            head = ("", "", "")
        rest = [one["model"] for one in item["members"] if one["model"] not in placed]
        if rest or not item["devices"]:
            waits = {name: count for name, count in waiting.items() if name not in placed}
            yield (
                *head,
                "no place" if rest else "-",
                "-",
                ", ".join(rest) or "-",
                "-",
                _waits(waits),
            )


def _waits(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items()) or "-"
