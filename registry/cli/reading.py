"""`get`: lists, one line each."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from registry.cli.command import (
    PluralGroup,
    Session,
    admin_url_option,
    output_option,
    pass_session,
)
from registry.cli.complete import model_names
from registry.cli.exits import clean
from registry.cli.limits import limits_text, spent_text
from registry.cli.output import Cell, ago, emit, show_rows, size, span, state, until
from registry.cli.rollout import rollout_text

Items = Sequence[dict[str, Any]]
Rows = Iterator[tuple[Cell, ...]]


@click.group(cls=PluralGroup)
def get() -> None:
    """List models, workers, nodes, quotas, pools, keys and more."""


@get.command()
@admin_url_option
@output_option
@pass_session
def models(session: Session, output: str) -> None:
    """Every model and how well it is served."""
    titles = (
        *("MODEL", "STATE", "TOPOLOGY", "READY", "ENGINE", "OWNER", "PRIORITY>", "REV>"),
        "UPDATED",
    )
    items = _list(
        session,
        "/models",
        output,
        titles=titles,
        rows=_model_rows,
        nothing="no models: `modelyard apply`",
    )
    for item in items:
        if item["condition"]:
            click.echo(f"{clean(item['name'])}: {clean(item['condition'])}", err=True)
        if item["rollout"] and not _is_told(item):
            told = f"{item['name']}: rollout {rollout_text(item['rollout'])}"
            click.echo(clean(told), err=True)


def _is_told(item: dict[str, Any]) -> bool:
    """Whether the condition has what the rollout says of itself."""
    return str(item["rollout"]["reason"]) in str(item["condition"])


def _model_rows(items: Items) -> Rows:
    for item in items:
        variants = item["variants"]
        only = variants[0] if len(variants) == 1 else None
        yield (
            item["name"],
            state(item["state"]),
            only["topology"] if only else f"{len(variants)} variants",
            ready(only["roles"]) if only else "",
            (only["engine"] or "-") if only else "",
            item["owner"],
            str(item["priority"]),
            str(item["revision"]),
            ago(item["updated_at"]),
        )
        if only is None:
            yield from _variant_rows(variants)


def _variant_rows(variants: Items) -> Rows:
    total = sum(variant["weight"] for variant in variants) or 1
    for position, variant in enumerate(variants):
        branch = "└" if position == len(variants) - 1 else "├"
        yield (
            f"{branch} {variant['name']} {100 * variant['weight'] / total:.0f} %",
            state(variant["state"]),
            variant["topology"],
            ready(variant["roles"]),
            variant["engine"] or "-",
            *("", "", "", ""),
        )


def ready(roles: Items) -> str:
    """``2/2``, or for prefill and decode ``1/1 : 2/2``."""
    return " : ".join(f"{count['ready']}/{count['desired']}" for count in roles) or "-"


@get.command()
@click.option("--model", help="Only this model's.", shell_complete=model_names)
@click.option("--ended", is_flag=True, help="Those that have ended, too.")
@admin_url_option
@output_option
@pass_session
def workers(session: Session, *, model: str | None, ended: bool, output: str) -> None:
    """Every worker: its phase and where it runs."""
    titles = ("WORKER", "PHASE", "NODE", "DEVICES", "ADDRESS", "AGE")
    params = {"model": model, "ended": ended}
    items = _list(
        session,
        "/workers",
        output,
        titles=titles,
        rows=_worker_rows,
        nothing="no workers",
        **params,
    )
    for item in items:
        if item["reason"]:
            click.echo(f"{clean(item['id'])}: {clean(item['reason'])}", err=True)


def _worker_rows(items: Items) -> Rows:
    for item in items:
        yield (
            item["id"],
            state(item["phase"]),
            item["node"],
            short_devices(item),
            item["address"] or "-",
            span(item["age_s"]),
        )


def short_devices(worker: dict[str, Any]) -> str:
    """Device ids without the node's name, which stands beside them."""
    prefix = f"{worker['node']}/"
    return ",".join(device.removeprefix(prefix) for device in worker["devices"]) or "-"


@get.command()
@admin_url_option
@output_option
@pass_session
def nodes(session: Session, output: str) -> None:
    """Every node with its devices and the memory still free on them."""
    titles = ("NODE", "STATE", "DEVICE", "MEMORY>", "FREE>", "USED>", "SEEN", "HELD BY")
    items = _list(
        session,
        "/nodes",
        output,
        titles=titles,
        rows=_node_rows,
        nothing="no nodes: start a controller",
    )
    for told in (line for item in items for line in device_troubles(item["devices"])):
        click.echo(told, err=True)


def _node_rows(items: Items) -> Rows:
    for node in items:
        name, word, seen = node["name"], state(node["state"]), ago(node["last_seen_at"])
        if not node["devices"]:
            yield (name, word, "-", "-", "-", "-", seen, "")
        for position, device in enumerate(node["devices"]):
            own: tuple[Cell, Cell, Cell] = (name, word, seen) if position == 0 else ("", "", "")
            yield (
                own[0],
                own[1],
                device["id"].removeprefix(f"{name}/"),
                *memory_cells(device),
                own[2],
                ", ".join(device["workers"]),
            )


def memory_cells(device: dict[str, Any]) -> tuple[Cell, Cell, Cell]:
    """What a device has, what is free of it to claim, and what is in use by whomever."""
    return (
        size(device["memory_bytes"]),
        state("quarantine") if device["quarantine"] else size(device["free_bytes"]),
        size(device["used_bytes"]) if device["used_bytes"] else "-",
    )


def device_troubles(devices: Items) -> Iterator[str]:
    """Why a device takes nothing new, and that its workers use more than they claim."""
    for device in devices:
        for told in filter(None, (device["quarantine"], device["overuse"])):
            yield clean(f"{device['id']}: {told}")


@get.command()
@admin_url_option
@output_option
@pass_session
def controllers(session: Session, output: str) -> None:
    """Which controller leads, and for how long if it does not renew that."""
    titles = ("CONTROLLER", "TERM>", "EXPIRES")
    _list(
        session,
        "/controllers",
        output,
        titles=titles,
        rows=_controller_rows,
        nothing="no controller leads: `modelyard up` or `modelyard controller`",
    )


def _controller_rows(items: Items) -> Rows:
    for item in items:
        yield (item["holder"], str(item["epoch"]), f"in {span(item['expires_in_s'])}")


@get.command()
@admin_url_option
@output_option
@pass_session
def quotas(session: Session, output: str) -> None:
    """Owners of models: what they hold, and of what quota."""
    titles = ("OWNER", "DEVICES>", "QUOTA>", "MEMORY>", "QUOTA>", "MODELS")
    _list(
        session, "/quotas", output, titles=titles, rows=_quota_rows, nothing="no models, no quotas"
    )


def _quota_rows(items: Items) -> Rows:
    for item in items:
        devices, memory = item["devices_quota"], item["memory_bytes_quota"]
        yield (
            item["owner"],
            str(item["devices"]),
            "-" if devices is None else str(devices),
            size(item["memory_bytes"]),
            "-" if memory is None else size(memory),
            ", ".join(item["models"]) or "-",
        )


@get.command()
@admin_url_option
@output_option
@pass_session
def keys(session: Session, output: str) -> None:
    """API keys (their secrets are shown only when they are made)."""
    titles = (
        *("KEY", "NAME", "KIND", "PRIORITY", "STATE", "EXPIRES", "AGE", "SPENT", "LIMITS"),
        "MODELS",
    )
    _list(
        session,
        "/keys",
        output,
        titles=titles,
        rows=_key_rows,
        nothing="no keys: `modelyard keys create NAME`",
    )


def kind_text(key: dict[str, Any]) -> str:
    """``inference``, ``admin``, or ``admin (viewer)`` for one that may only look."""
    return f"{key['kind']} ({key['role']})" if key["role"] == "viewer" else str(key["kind"])


def _key_rows(items: Items) -> Rows:
    for item in items:
        yield (
            item["id"],
            item["name"],
            kind_text(item),
            item["priority"],
            state(item["state"]),
            until(item["expires_at"]),
            ago(item["created_at"]),
            spent_text(item),
            limits_text(item["limits"]) or "-",
            ", ".join(item["models"]) or "all",
        )


@get.command()
@click.option(
    "--after", type=click.IntRange(min=0), help="Only entries after this number: the first of them."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=500,
    show_default=True,
    help="How many entries at most; without --after the newest.",
)
@admin_url_option
@output_option
@pass_session
def audit(session: Session, *, after: int | None, limit: int, output: str) -> None:
    """Who changed what, oldest first."""
    titles = ("#>", "AGE", "ACTOR", "ACTION", "OBJECT", "REVISION", "FROM")
    params = {"after": after, "limit": limit}
    _list(
        session,
        "/audit",
        output,
        titles=titles,
        rows=_audit_rows,
        nothing="nothing was changed yet",
        **params,
    )


def _audit_rows(items: Items) -> Rows:
    for item in items:
        before, now = item["before_revision"], item["after_revision"]
        yield (
            str(item["id"]),
            ago(item["at"]),
            item["actor"],
            item["action"],
            item["object"],
            "-" if before is None and now is None else f"{before or '-'} → {now or '-'}",
            item["client_ip"] or "-",
        )


def _list(
    session: Session,
    where: str,
    output: str,
    *,
    titles: Sequence[str],
    rows: Callable[[Items], Rows],
    nothing: str,
    **params: str | int | bool | None,
) -> Items:
    """Fetches and prints a list; returns its items where they were shown to people."""
    with session.api() as api:
        answer = api.get(where, **params)
    if emit(answer, output):
        return ()
    items: Items = answer.data["items"]
    if items:
        show_rows(titles, rows(items))
    else:
        click.echo(nothing, err=True)
    return items
