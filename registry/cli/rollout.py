"""`rollout`: how a model gets from one revision to the next, and a word in it."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from registry.cli.api import Api, path
from registry.cli.command import Session, admin_url_option, output_option, pass_session
from registry.cli.complete import model_names
from registry.cli.exits import RolledBackError, clean
from registry.cli.output import Cell, ago, console, emit, rows_table, show, show_rows, span, state

_POLL_S = 1.0
_BAR_CELLS = 40
_WHOLE = 100  # percent
_SHORT_S = 0.01  # less than that is told with a decimal
_HERE = {False: (" ●", "yellow"), True: (" ✗", "red")}  # a step, by whether it failed there
_TITLES = ("", "REVISION>", "TRAFFIC>", "READY", "REQUESTS>", "ERRORS>", "TTFT>", "TPOT>")
UNDER_WAY = frozenset({"progressing", "paused", "stalled"})
FAILED = frozenset({"rolled-back", "stalled"})

View = dict[str, Any]


@click.group()
def rollout() -> None:
    """See, pause, resume and abort changes under way."""


@rollout.command()
@click.argument("model", required=False, shell_complete=model_names)
@click.option("-w", "--watch", is_flag=True, help="Show it again and again, until it has ended.")
@admin_url_option
@output_option
@pass_session
def status(session: Session, model: str | None, *, watch: bool, output: str) -> None:
    """Show a model's newest rollout, or all those under way.

    With --watch, exit code 9 when it was rolled back or stands still for a failure.
    """
    with session.api() as api:
        if watch:
            _check_watch(model, output)
            view = _watch(api, str(model))
            if view["state"] in FAILED:
                raise RolledBackError(failure_text(view["model"], view))
            return
        answer = api.get("/rollouts" if model is None else path("models", model, "rollout"))
    if emit(answer, output):
        return
    views = answer.data["items"] if model is None else [answer.data]
    for number, view in enumerate(views):
        if number:
            click.echo()
        show_page(view)
    if not views:
        click.echo("no rollout is under way", err=True)


def _check_watch(model: str | None, output: str) -> None:
    if model is None:
        raise click.UsageError("--watch is for one model: name it")
    if output != "table":
        raise click.UsageError("--watch is for people: ask again for --output")


@rollout.command()
@click.argument("model", shell_complete=model_names)
@admin_url_option
@output_option
@pass_session
def pause(session: Session, model: str, output: str) -> None:
    """Stop a rollout where it is: its workers and their traffic stay."""
    _say(session, model, "pause", output)


@rollout.command()
@click.argument("model", shell_complete=model_names)
@admin_url_option
@output_option
@pass_session
def resume(session: Session, model: str, output: str) -> None:
    """Let one go on that was paused, or stands still."""
    _say(session, model, "resume", output)


@rollout.command()
@click.argument("model", shell_complete=model_names)
@admin_url_option
@output_option
@pass_session
def abort(session: Session, model: str, output: str) -> None:
    """Roll back: what was served before becomes the newest revision."""
    _say(session, model, "abort", output)


def _say(session: Session, model: str, word: str, output: str) -> None:
    with session.api() as api:
        answer = api.post(path("models", model, f"rollout:{word}"))
    if not emit(answer, output):
        click.echo(line(answer.data))


def failure_text(model: str, view: View) -> str:
    """*view* has failed; it may be its summary."""
    what = "stands still" if view["state"] == "stalled" else "was rolled back"
    text = f"the rollout of {model} {what}: {view['reason'] or 'no reason was given'}"
    return f"{text} ({_way_on(model)})" if view["state"] == "stalled" else text


def _way_on(model: str) -> str:
    """What an operator may do about one that stands still."""
    return f"`modelyard rollout abort {model}` takes it back, `resume` tries again"


def line(view: View) -> str:
    """``smollm2: paused at 25 %, revision 3 → 4: why``."""
    return clean(f"{view['model']}: {rollout_text(view)}")


def rollout_text(view: View | None, *, told: str = "") -> str:
    """The same without the model's name, of a summary too; "" where there is none. A reason that
    was *told* already is left out.
    """
    if view is None:
        return ""
    place = f"revision {view['from_revision']} → {view['to_revision']}"
    at = f" at {view['percent']} %" if view["state"] in UNDER_WAY else ""
    why = f": {view['reason']}" if view["reason"] and view["reason"] not in told else ""
    return f"{view['state']}{at}, {place}{why}"


def show_page(view: View) -> None:
    """A line of its state, its steps, both revisions side by side, and the reason."""
    show(Group(*_head(view)))
    show_rows(_TITLES, _sides(view))
    for text in _tail(view):
        show(text)


def _head(view: View) -> Iterator[Text]:
    since = f"began {ago(view['created_at'])} ago"
    if view["ended_at"]:
        since += f", ended {ago(view['ended_at'])} ago"
    yield Text.assemble(
        (clean(view["model"]), "bold"),
        "  ",
        state(view["state"]),
        f"  revision {view['from_revision']} → {view['to_revision']}",
        (f"  {since}", "dim"),
    )
    yield _bar(view)
    yield _steps(view)
    yield Text("")


def _tail(view: View) -> Iterator[Text]:
    yield Text(clean(_seen_text(view)), style="dim")
    if view["gate"]:
        yield Text(gate_text(view["gate"]), style="dim")
    if view["reason"]:
        yield Text(clean(view["reason"]), style=_reason_style(view))
    if view["state"] == "stalled":
        yield Text(clean(_way_on(view["model"])), style="dim")


def _seen_text(view: View) -> str:
    """Of when the numbers are."""
    seen, is_shared = view["seen"], not view["ended_at"] and view["percent"] < _WHOLE
    if seen is None:
        return "no requests told yet of this step" if is_shared else "no requests were told of it"
    step = "this step" if is_shared else f"the last step with traffic at both, {seen['percent']} %"
    return f"REQUESTS to TPOT: of {step}, as of {ago(seen['until'])} ago"


def _sides(view: View) -> Iterator[tuple[Cell, ...]]:
    for name in ("old", "new"):
        side = view[name]
        is_gone = bool(view["ended_at"]) and not side["percent"]  # nobody waits for its workers
        yield _side(name, side | {"roles": []} if is_gone else side, told=view["seen"] is not None)


def _reason_style(view: View) -> str:
    return "red" if view["state"] in FAILED else "" if view["state"] == "done" else "yellow"


def _bar(view: View) -> Text:
    filled = round(_BAR_CELLS * view["percent"] / 100)
    text = Text("█" * filled, style="green")
    text.append("░" * (_BAR_CELLS - filled), style="dim")
    text.append(f"  {view['percent']} % of the traffic is the new revision's", style="default")
    return text


def _steps(view: View) -> Text:
    """``[5 ✓] [25 ●] [100]``: what is behind it, where it is, what is to come."""
    done, failed = view["state"] == "done", view["state"] in FAILED
    parts = Text()
    for number, percent in enumerate(view["steps"], start=1):
        passed = number < view["step"] or (done and number <= view["step"])
        here = number == view["step"] and not passed
        mark, style = (" ✓", "green") if passed else _HERE[failed] if here else ("", "dim")
        parts.append(f"[{percent}{mark}]", style=style).append(" ")
    parts.append(f" step {view['step']} of {len(view['steps'])}", style="dim")
    if view["step"] and not view["ended_at"]:
        parts.append(f", for {ago(view['step_at'])}", style="dim")
    return parts


def _side(name: str, side: View, *, told: bool) -> tuple[Cell, ...]:
    return (
        name,
        str(side["revision"]),
        f"{side['percent']} %",
        roles_text(side["roles"]) or "-",
        f"{side['requests']:,}" if told else "-",
        "-" if side["error_rate"] is None else f"{side['error_rate']:.1%}",
        _ms(side["ttft_s"]),
        _ms(side["tpot_s"]),
    )


def roles_text(roles: Sequence[View]) -> str:
    """``prefill 1/2, decode 1/1``, with the variant's name where there are several."""
    several = len({role["variant"] for role in roles}) > 1
    return ", ".join(
        f"{role['variant'] + ' ' if several else ''}{role['role']} {role['ready']}/{role['wanted']}"
        for role in roles
    )


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.{0 if seconds >= _SHORT_S else 1}f} ms"


def gate_text(gate: View) -> str:
    more = f"{100 * gate['error_rate_max']:g} %"
    return (
        f"Gate, over {span(gate['watch_s'])} and {gate['requests_min']} requests: errors at most "
        f"{more} more than the old one's, TTFT {gate['ttft_ratio_max']:g} times, "
        f"TPOT {gate['tpot_ratio_max']:g} times"
    )


def _watch(api: Api, model: str) -> View:
    """Until it has ended, or stands still: the last that was seen of it."""
    out = console()
    if not out.is_terminal:
        return _poll(api, model, _print_changes())
    with Live(console=out, refresh_per_second=4) as live:

        def redraw(view: View) -> None:
            table, _width = rows_table(_TITLES, _sides(view))
            live.update(Group(*_head(view), table, *_tail(view)))

        return _poll(api, model, redraw)


def _poll(api: Api, model: str, seen: Callable[[View], None]) -> View:
    while True:
        view: View = api.get(path("models", model, "rollout")).data
        seen(view)
        if view["state"] not in UNDER_WAY - FAILED:
            return view
        time.sleep(_POLL_S)


def _print_changes() -> Callable[[View], None]:
    """One line for each change, for logs."""
    last = ""

    def seen(view: View) -> None:
        nonlocal last
        text = line(view)
        if text != last:
            click.echo(text)
            last = text

    return seen
