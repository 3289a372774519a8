"""`plan` and `defragment`: what would happen, or could. Nothing does."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import click
from rich.text import Text

from registry import spec as specs
from registry.cli import recommend
from registry.cli.command import Duration, Session, admin_url_option, output_option, pass_session
from registry.cli.exits import NoPlaceError, clean
from registry.cli.models import read_specs
from registry.cli.output import Cell, emit, heading, show, show_rows, size
from registry.cli.quotas import held_text

NODES_SHOWN = 3

View = dict[str, Any]
Rows = Iterator[tuple[Cell, ...]]


@click.command()
@click.option(
    "-f",
    "--file",
    "files",
    type=click.File("r", encoding="utf-8"),
    multiple=True,
    metavar="FILE|-",
    help="YAML or JSON with model specs, as for apply; repeat for several. None: what is waited "
    "for now.",
)
@click.option(
    "--traffic",
    metavar=f"FILE|{recommend.LIVE}",
    help="Recommend topologies instead, for this traffic: a file (examples/planner), or what was "
    "asked lately.",
)
@click.option(
    "--fleet",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --traffic: YAML of the nodes. None: those that are there.",
)
@click.option(
    "--profiles",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --traffic: what was measured, as `get profiles -o json` writes it. None: what the "
    "gateway has, where one is asked.",
)
@click.option(
    "--since",
    type=Duration(),
    default="1h",
    show_default=True,
    help=f"With --traffic {recommend.LIVE}: how far back.",
)
@click.option(
    "--objective",
    metavar="goodput|devices",
    help="With --traffic: goodput (as much of it within its SLO as can be; the default) or devices "
    "(all of it, or no plan); either at the least cost, then on the fewest devices.",
)
@click.option(
    "--headroom",
    type=float,
    metavar="PART",
    help="With --traffic: plan for this much more than is asked (0.3: 1.3 times), of models that "
    "say none.",
)
@click.option(
    "--cache/--no-cache",
    default=None,
    help="With --traffic: keep what the measured data says in your cache folder, for the next plan "
    "(the default).",
)
@click.option("--seed", type=int, help="With --traffic: the same seed, the same plan.")
@admin_url_option
@output_option
@pass_session
def plan(
    session: Session,
    /,
    *,
    files: tuple[TextIO, ...],
    traffic: str | None,
    fleet: Path | None,
    since: int,
    output: str,
    **wished: Any,
) -> None:
    """Say what applying files would do, and change nothing.

    What would start where, stop, be evicted or wait; what has no place, why on each node, and what
    would help. Without files: what is waited for now. Exit code 7 when something has no place.

    With --traffic: which topology each model should have on a fleet so that most of the traffic
    is answered within its SLO, by what was measured here (`measure`) where it was. -o yaml prints
    specs that apply takes. With a file of the fleet as
    well, no gateway is asked.
    """
    if traffic is not None:
        if files:
            raise click.UsageError("--traffic is for traffic, --file for specs: one of them")
        _recommend(session, traffic, fleet, since_s=since, output=output, wished=wished)
        return
    for name, value in {"fleet": fleet, **wished}.items():
        if value is not None:
            raise click.UsageError(f"--{name} goes with --traffic")
    found = [spec for file in files for spec in read_specs(file)]
    with session.api() as api:
        answer = api.post("/plan", {"models": [specs.to_data(spec) for spec in found]})
    view = answer.data
    if not emit(answer, output):
        _page(view)
    if not view["complete"]:
        models = sorted({item["model"] for item in view["no_place"]})
        raise NoPlaceError(f"no place for all of {', '.join(models)}")


def _recommend(
    session: Session,
    traffic: str,
    fleet: Path | None,
    *,
    since_s: int,
    output: str,
    wished: View,
) -> None:
    """*wished*: options of the planner's own, which says what is allowed there."""
    words = ["--output", output]
    for name, value in wished.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            words += [f"--{name}", str(value)]
    given: View = {}
    if traffic != recommend.LIVE:
        words += ["--traffic", traffic]
    if fleet is not None:
        words += ["--fleet", str(fleet)]
    if traffic == recommend.LIVE or fleet is None:
        with session.api() as api:
            given = recommend.live(
                api,
                fleet=fleet is None,
                traffic=traffic == recommend.LIVE,
                profiles=wished["profiles"] is None,
                seconds=since_s,
            )
        words += ["--given", "-"]
    sys.exit(recommend.run(*words, given=given))


@click.command()
@admin_url_option
@output_option
@pass_session
def defragment(session: Session, output: str) -> None:
    """Propose moves that empty nodes. Nothing moves.

    Each move names a worker, its node, and the devices of another node that are free for it now.
    `modelyard drain NODE` is what moves workers, to where the scheduler then finds best.
    """
    with session.api() as api:
        answer = api.get("/defragmentation")
    if emit(answer, output):
        return
    view = answer.data
    titles = ("WORKER", "MODEL", "FROM", "TO", "DEVICES")
    _section("Could move", titles, map(_move, view["moves"]))
    if view["gains"]:
        heading("Gained")
        for gain in view["gains"]:
            show(Text(clean(gain)))
    else:
        show(Text("No node would become empty by moving workers that serve."))
    show(Text("This is a proposal: nothing moves.", style="dim"))


def _move(item: View) -> tuple[Cell, ...]:
    return (item["worker"], slot(item), item["node"], item["to"], _devices(item["to"], item))


def _page(view: View) -> None:
    if view["changes"]:
        said = ", ".join(f"{item['model']} {item['change']}" for item in view["changes"])
        show(Text(clean(f"Models: {said}")))
    _section("Would start", ("WORKER", "NODE", "DEVICES", "RUNTIME", "WHEN"), _starts(view))
    stops = [item for item in view["stops"] if item["cause"] != "evicted"]
    evicted = [item for item in view["stops"] if item["cause"] == "evicted"]
    _section("Would stop", ("WORKER", "MODEL", "NODE", "WHEN", "WHY"), _stops(stops))
    _section("Would be evicted", ("WORKER", "MODEL", "NODE", "WHEN", "WHY"), _stops(evicted))
    waits = ((item["model"], item["reason"]) for item in view["waits"])
    _section("Would wait", ("MODEL", "WHY"), waits)
    staying = ((item["model"], item["reason"]) for item in view["staying"])
    _section("Would have to stay", ("MODEL", "WHY"), staying)
    taken = ((slot(item), item["url"]) for item in view["external"])
    _section("Would be reached", ("WORKER", "ADDRESS"), taken)
    if view["no_place"]:
        heading("No place")
        show_no_place(view["no_place"])
    touched = [item for item in view["quotas"] if _is_told(item)]
    _section("Owners", ("OWNER", "DEVICES", "MEMORY"), map(_owner, touched))
    show(Text(f"\nGo on as they are: {len(view['kept'])} workers"))
    show(Text("This is a plan: nothing was changed.", style="dim"))


def _section(title: str, titles: Sequence[str], rows: Rows | Iterator[tuple[Cell, ...]]) -> None:
    listed = list(rows)
    if listed:
        heading(title)
        show_rows(titles, listed)


def slot(item: View) -> str:
    variant = "" if item["variant"] == "default" else f"/{item['variant']}"
    return f"{item['model']}{variant} {item['role']} {item['ordinal']}"


def _starts(view: View) -> Rows:
    for item in view["starts"]:
        yield (slot(item), item["node"], _devices(item["node"], item), item["runtime"], _when(item))


def _devices(node: str, item: View) -> str:
    prefix = f"{node}/"
    return ", ".join(
        f"{share['device'].removeprefix(prefix)} {size(share['memory_bytes'])} "
        f"({share['share']:.0%})"
        for share in item["devices"]
    )


def _when(item: View) -> str:
    if item["asleep"]:
        return "asleep, starts when it is asked for"
    if item["after"]:
        return (
            f"when {', '.join(item['after'])} {'have' if len(item['after']) > 1 else 'has'} ended"
        )
    if not item["at_once"]:
        return "later"
    return f"now, instead of {item['replaces']}" if item["replaces"] else "now"


def _stops(items: Sequence[View]) -> Rows:
    for item in items:
        when = "now" if item["at_once"] else "later"
        yield (item["worker"], slot(item), item["node"], when, item["reason"])


def show_no_place(items: Sequence[View]) -> None:
    """What has no place: a line for it, and one for each reason with the nodes that have it."""
    for item in items:
        memory = f" with {size(item['memory_bytes'])}" if item["memory_bytes"] else ", whole"
        devices = f"{item['devices']} device{'s' if item['devices'] > 1 else ''}{memory}"
        variant = "" if item["variant"] == "default" else f"/{item['variant']}"
        workers = ", ".join(item["workers"])
        together = " (together or not at all)" if item["together"] else ""
        show(
            Text.assemble(
                (clean(f"{item['model']}{variant}: {workers}{together}"), "bold"),
                clean(f"\n  priority {item['priority']}, owner {item['owner']}; "),
                clean(f"{item['role']} {item['ordinal']} needs {devices}"),
            )
        )
        if item["waits_for"]:
            show(Text(clean(f"  its place comes from {', '.join(item['waits_for'])}")))
        for why in item["why"]:
            show(Text(clean(f"  {_nodes(why)}{why['sentence']}")))
            show(Text(clean(f"      → {why['advice']}"), style="dim"))
        if not item["why"]:
            show(Text("  there is no node"))


def _nodes(why: View) -> str:
    count, names = why["node_count"], why["nodes"]
    if not count:
        return ""
    shown = ", ".join(names[:NODES_SHOWN])
    more = f", … ({count} nodes)" if count > NODES_SHOWN else ""
    return f"{shown}{more}: "


def _is_told(item: View) -> bool:
    has_quota = item["devices_quota"] is not None or item["memory_bytes_quota"] is not None
    return has_quota or item["devices_now"] != item["devices_then"]


def _owner(item: View) -> tuple[Cell, ...]:
    devices, memory = item["devices_quota"], item["memory_bytes_quota"]
    return (
        item["owner"],
        held_text(f"{item['devices_now']} → {item['devices_then']}", devices),
        held_text(
            f"{size(item['memory_bytes_now'])} → {size(item['memory_bytes_then'])}",
            None if memory is None else size(memory),
        ),
    )
