"""`describe`: one thing, whole, on a page."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.text import Text
from rich.tree import Tree

from registry.cli.api import path
from registry.cli.command import (
    PluralGroup,
    Session,
    admin_url_option,
    output_option,
    pass_session,
)
from registry.cli.complete import key_ids, model_names, node_names, worker_ids
from registry.cli.exits import clean
from registry.cli.limits import amount_text, limits_text, spent_text
from registry.cli.output import (
    STYLES,
    Cell,
    ago,
    emit,
    facts,
    heading,
    show,
    show_rows,
    span,
    state,
    until,
)
from registry.cli.plan import show_no_place
from registry.cli.reading import device_troubles, memory_cells, short_devices
from registry.cli.rollout import rollout_text
from registry.cli.usage import usage_rows, usage_titles

EVENT_TITLES = ("AGE>", "KIND", "ABOUT", "MESSAGE")
USAGE_DAYS = 30
_WORKERS_DRAWN_MAX = 8

View = dict[str, Any]


@click.group(cls=PluralGroup)
def describe() -> None:
    """Everything about one model, worker, node or key."""


@describe.command()
@click.argument("name", shell_complete=model_names)
@admin_url_option
@output_option
@pass_session
def model(session: Session, name: str, output: str) -> None:
    """A model: its state, topology, workers, KV transfers and newest events."""
    with session.api() as api:
        answer = api.get(path("models", name))
    if not emit(answer, output):
        _model_page(answer.data)


@describe.command()
@click.argument("worker_id", metavar="ID", shell_complete=worker_ids)
@admin_url_option
@output_option
@pass_session
def worker(session: Session, worker_id: str, output: str) -> None:
    """A worker: where it runs, on what, and what its engine counts."""
    with session.api() as api:
        answer = api.get(path("workers", worker_id))
    if not emit(answer, output):
        _worker_page(answer.data)


@describe.command()
@click.argument("key_id", metavar="ID", shell_complete=key_ids)
@admin_url_option
@output_option
@pass_session
def key(session: Session, key_id: str, output: str) -> None:
    """A key: what it may do, how much, and what it used in the last 30 days."""
    since = f"{datetime.now(UTC) - timedelta(days=USAGE_DAYS):%Y-%m-%dT%H:%M:%SZ}"
    with session.api() as api:
        answer = api.get(path("keys", key_id))
        if emit(answer, output):
            return
        used = api.get("/usage", key=answer.data["id"], since=since, by=["model"])
    _key_page(answer.data, used.data["items"])


@describe.command()
@click.argument("name", shell_complete=node_names)
@admin_url_option
@output_option
@pass_session
def node(session: Session, name: str, output: str) -> None:
    """A node: its workers, and why what has no place anywhere has none here."""
    with session.api() as api:
        answer = api.get(path("nodes", name))
    if not emit(answer, output):
        _node_page(answer.data)


def _node_page(view: View) -> None:
    about = view["node"]
    show(Text.assemble((clean(about["name"]), "bold"), "  ", state(about["state"])))
    labels = ", ".join(f"{key}={value}" for key, value in sorted(about["labels"].items()))
    show(
        facts(
            [
                ("Address", about["address"]),
                ("Labels", labels),
                ("Runtimes", ", ".join(about["runtimes"])),
                ("Seen", f"{ago(about['last_seen_at'])} ago"),
            ]
        )
    )
    heading("Devices")
    titles = ("DEVICE", "MODEL", "ISLAND", "MEMORY>", "FREE>", "USED>", "HELD BY")
    show_rows(titles, map(_device_row, about["devices"]))
    for told in device_troubles(about["devices"]):
        show(Text(told, style="yellow"))
    if view["workers"]:
        heading("Workers")
        show_rows(("WORKER", "PHASE", "AGE>", "WHY"), map(staying_row, view["workers"]))
    for model, condition in sorted(view["conditions"].items()):
        show(Text(clean(f"{model}: {condition}"), style="yellow"))
    if view["no_place"]:
        heading("No place here, nor elsewhere")
        show_no_place(view["no_place"])


def _device_row(item: View) -> tuple[Cell, ...]:
    return (
        item["id"].rpartition("/")[2],
        item["model"],
        item["island"] or "-",
        *memory_cells(item),
        ", ".join(item["workers"]) or "-",
    )


def staying_row(item: View) -> tuple[Cell, ...]:
    """A worker of a node: a departing one serves until its successor is ready."""
    word = Text("departing", style="yellow") if item["departing"] else state(item["phase"])
    if item["phase"] in {"draining", "stopping"}:
        word = state(item["phase"])
    return (item["id"], word, span(item["age_s"]), item["reason"])


def _model_page(view: View) -> None:
    show(Text.assemble((clean(view["name"]), "bold"), "  ", state(view["state"])))
    show(
        facts(
            [
                ("Condition", Text(clean(view["condition"]), style="yellow")),
                *(
                    ("Warning", Text(clean(warning), style="yellow"))
                    for warning in view.get("warnings", ())
                ),
                ("Source", view["spec"].get("source", "")),
                ("Task", view["spec"].get("task", "")),
                ("Owner", view["spec"].get("owner", "default")),
                ("Priority", str(view["spec"].get("priority", 100))),
                ("Price", price_text(view["spec"].get("price", {}))),
                ("Limits", limits_text(view["spec"].get("limits", {}))),
                ("Revision", f"{view['revision']} (generation {view['generation']})"),
                ("Rollout", rollout_text(view["rollout"], told=view["condition"])),
                ("Updated", f"{ago(view['updated_at'])} ago"),
            ]
        )
    )
    heading("Topology")
    show(_topology(view))
    workers = _workers(view)
    if workers:
        heading("Workers")
        show_rows(_worker_titles(view), _worker_rows(view))
    for item in workers:
        if item["reason"]:
            show(Text(f"{clean(item['id'])}: {clean(item['reason'])}", style="yellow"))
    if view["no_place"]:
        heading("No place")
        show_no_place(view["no_place"])
    if view["events"]:
        heading("Events")
        show_rows(EVENT_TITLES, map(event_row, view["events"]))


def price_text(price: Mapping[str, float]) -> str:
    """What a spec says of it, which leaves out what is 0; "" where nothing costs anything."""
    parts = [
        f"{amount_text(price[side])} for {side}" for side in ("input", "output") if price.get(side)
    ]
    return f"{', '.join(parts)}, per million tokens" if parts else ""


def event_row(event: View) -> tuple[Cell, ...]:
    about = event["worker"] or event["model"] or event["node"] or "-"
    return (ago(event["at"]), event["kind"], about, event["message"])


def _workers(view: View) -> list[View]:
    return [item for variant in view["variants"] for item in variant["workers"]]


def _topology(view: View) -> Tree:
    """By variant; of a model that rolls out by revision."""
    if not view["revisions"]:
        return _by_variant(view)
    tree = Tree(Text(clean(view["name"]), style="bold"), guide_style="dim")
    for part in view["revisions"]:
        label = Text(f"revision {part['revision']}")
        side = _side(view["rollout"], part["revision"])
        label.append(f"  {side}, {part['percent']:.0f} % of traffic", style="dim")
        _draw_revision(tree.add(label), part, _workers(view))
    return tree


def _side(rollout: View, revision: int) -> str:
    if revision == rollout["to_revision"]:
        return "new"
    return "old" if revision == rollout["from_revision"] else "stands in for the old one"


def _draw_revision(branch: Tree, part: View, workers: list[View]) -> None:
    mine = [item for item in workers if item["id"] in part["workers"]]
    several = len({role["variant"] for role in part["roles"]}) > 1
    for count in part["roles"]:
        name = f"{count['variant']} " if several else ""
        label = Text(clean(f"{name}{count['role']}  {count['ready']}/{count['wanted']} ready"))
        slot = (count["variant"], count["role"])
        _draw_workers(branch.add(label), [w for w in mine if (w["variant"], w["role"]) == slot])


def _by_variant(view: View) -> Tree:
    total = sum(variant["weight"] for variant in view["variants"]) or 1
    tree = Tree(Text(clean(view["name"]), style="bold"), guide_style="dim")
    for variant in view["variants"]:
        share = f"{100 * variant['weight'] / total:.0f} % of traffic"
        runtime = variant["runtime"] or _runtime_used(variant)
        about = [share, variant["topology"], variant["engine"], runtime]
        label = Text.assemble(clean(variant["name"]), "  ", state(variant["state"]))
        label.append("  " + ", ".join(clean(text) for text in about if text), style="dim")
        _draw_variant(tree.add(label), variant)
    return tree


def _runtime_used(variant: View) -> str:
    return next((item["runtime"] for item in variant["workers"] if item["runtime"]), "")


def _draw_variant(branch: Tree, variant: View) -> None:
    """Its roles in the order a request meets them; between prefill and decode, the KV's way."""
    for count in variant["roles"]:
        role = count["role"]
        if role == "decode":
            branch.add(_transfers(variant))
        label = Text(f"{role}  {count['ready']}/{count['desired']} ready")
        label.append(f"  {autoscaled(count)}".rstrip(), style="dim")
        workers = [item for item in variant["workers"] if item["role"] == role]
        _draw_workers(branch.add(label), workers)
    if not variant["roles"]:
        _draw_workers(branch, variant["workers"])


def autoscaled(count: View) -> str:
    """Between which bounds a role's load moves its number of workers, and why it is what it is."""
    bounds = count.get("autoscale")
    if not bounds:
        return ""
    reason = clean(bounds["reason"]) or "as its spec says"
    return f"(autoscaled {bounds['workers_min']} to {bounds['workers_max']}: {reason})"


def _transfers(variant: View) -> Text:
    moved, failed = variant["kv_transfers"], variant["kv_transfer_failures"]
    text = Text.assemble(("▼ ", "cyan"), f"KV over {variant['transfer']}  ")
    text.append(f"{moved:,} transfers", style="cyan")
    text.append(f", {failed:,} failed", style="red" if failed else "dim")
    return text


def _draw_workers(branch: Tree, workers: list[View]) -> None:
    for item in workers[:_WORKERS_DRAWN_MAX]:
        dot = ("● ", STYLES.get(item["phase"], ""))
        place = f"{item['node']} {short_devices(item)} {item['address']}"
        branch.add(Text.assemble(dot, clean(item["id"]), (f"  {clean(place)}", "dim")))
    if len(workers) > _WORKERS_DRAWN_MAX:
        branch.add(Text(f"… and {len(workers) - _WORKERS_DRAWN_MAX} more", style="dim"))


def _worker_titles(view: View) -> tuple[str, ...]:
    revision = ("REVISION>",) if view["revisions"] else ()
    return ("WORKER", *revision, "PHASE", "RUN>", "WAIT>", "KV>", "TOKENS>", "RESTARTS>", "AGE>")


def _worker_rows(view: View) -> Iterator[tuple[Cell, ...]]:
    """Of a model that rolls out with the revision that asks for it, or both."""
    for item in _workers(view):
        counts = item["metrics"]
        asking = [str(p["revision"]) for p in view["revisions"] if item["id"] in p["workers"]]
        yield (
            item["id"],
            *((", ".join(asking) or "-",) if view["revisions"] else ()),
            state(item["phase"]),
            str(counts["requests_running"]) if counts else "-",
            str(counts["requests_waiting"]) if counts else "-",
            f"{counts['kv_cache_usage']:.0%}" if counts else "-",
            f"{counts['generation_tokens']:,}" if counts else "-",
            str(item["restarts"]),
            span(item["age_s"]),
        )


def _worker_page(view: View) -> None:
    show(Text.assemble((clean(view["id"]), "bold"), "  ", state(view["phase"])))
    show(
        facts(
            [
                ("Reason", Text(clean(view["reason"]), style="yellow")),
                (
                    "Model",
                    f"{view['model']}, variant {view['variant']}, revision {view['revision']}",
                ),
                ("Role", f"{view['role']} {view['ordinal']}"),
                ("Node", view["node"]),
                ("Devices", ", ".join(view["devices"])),
                ("Address", view["address"]),
                ("Engine", f"{view['engine']} in runtime {view['runtime'] or '(none yet)'}"),
                ("Created", f"{ago(view['created_at'])} ago"),
                ("Ready", f"{ago(view['ready_at'])} ago" if view["ready_at"] else ""),
                ("Ended", f"{ago(view['ended_at'])} ago" if view["ended_at"] else ""),
                ("Restarts", str(view["restarts"])),
            ]
        )
    )
    if view["metrics"]:
        heading("Engine, since its start")
        show(facts(_counts(view["metrics"])))
    show(Text(f"\nIts log: modelyard logs {clean(view['id'])}", style="dim"))


def _counts(counts: View) -> Iterator[tuple[str, Cell]]:
    yield "Requests", f"{counts['requests_running']} running, {counts['requests_waiting']} waiting"
    yield "KV cache", f"{counts['kv_cache_usage']:.0%} used"
    yield (
        "KV reads",
        f"{counts['kv_transfers']:,} done, {counts['kv_transfer_failures']:,} failed",
    )
    yield (
        "Tokens",
        f"{counts['prompt_tokens']:,} prompt, {counts['generation_tokens']:,} generated",
    )


def _key_page(view: View, used: list[View]) -> None:
    show(Text.assemble((clean(view["id"]), "bold"), "  ", state(view["state"])))
    old = view["old_secret_until"]
    admin = view["kind"] == "admin"
    show(
        facts(
            [
                ("Name", view["name"]),
                ("Opens", "the admin API" if admin else ", ".join(view["models"]) or "all models"),
                ("Priority", "" if admin else view["priority"]),
                ("Limits", limits_text(view["limits"]) or ("" if admin else "none")),
                ("Spent", "" if admin else spent_text(view)),
                ("Created", f"{ago(view['created_at'])} ago"),
                ("Expires", until(view["expires_at"])),
                ("Old secret", f"ends {until(old)}" if old else ""),
                ("Revoked", f"{ago(view['revoked_at'])} ago" if view["revoked_at"] else ""),
            ]
        )
    )
    if used:
        heading(f"Usage of the last {USAGE_DAYS} days")
        show_rows(usage_titles(("model",)), usage_rows(used, ("model",)))
