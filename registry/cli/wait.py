"""Waiting for models to be as they were written, with progress on stderr."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from registry.cli.api import Api, path
from registry.cli.exits import NotReadyError, RolledBackError, clean
from registry.cli.output import console, span, state
from registry.cli.rollout import FAILED, UNDER_WAY, failure_text

_POLL_S = 1.0
_READY = "ready"
_WELL = frozenset({_READY, "asleep"})
# Of these the reason says nothing about what a model waits for.
_TELL_NOTHING = frozenset({_READY, "draining", "stopping"})

View = dict[str, Any]


def wait_until_ready(
    api: Api, names: Sequence[str], timeout_s: float, *, asleep_is_fine: bool = True
) -> None:
    """Until each model is ready and its rollout has ended.

    Raises NotReadyError when *timeout_s* is over, saying what each model waits for, and
    RolledBackError as soon as a rollout fails that was under way, or began, meanwhile.
    """
    well = _WELL if asleep_is_fine else frozenset({_READY})
    out = console(stderr=True)
    watch = _watch_live if out.is_terminal else _watch_plain
    waiting = watch(api, names, well, time.monotonic() + timeout_s, out)
    if waiting:
        reasons = "; ".join(f"{view['name']} is {describe(view)}" for view in waiting)
        raise NotReadyError(f"not ready after {span(timeout_s)}: {reasons}")


def _is_done(view: View, well: Collection[str]) -> bool:
    rollout = view["rollout"]
    return view["state"] in well and (rollout is None or rollout["state"] not in UNDER_WAY)


def _check(view: View, since: int) -> None:
    rollout = view["rollout"]
    if rollout and rollout["state"] in FAILED and rollout["to_revision"] >= since:
        raise RolledBackError(failure_text(view["name"], rollout))


def describe(view: View) -> str:
    """``starting, prefill 0/1, decode 1/1: why it is so``."""
    counts = [
        f"{count['role']} {count['ready']}/{count['desired']}"
        for variant in view["variants"]
        for count in variant["roles"]
    ]
    reasons = [
        worker["reason"]
        for variant in view["variants"]
        for worker in variant["workers"]
        if worker["phase"] not in _TELL_NOTHING and worker["reason"]
    ]
    why = view["condition"] or (reasons[0] if reasons else "")
    rollout = view["rollout"]
    if rollout and rollout["state"] in UNDER_WAY:
        counts.append(f"rollout {rollout['state']} at {rollout['percent']} %")
        why = rollout["reason"] or why
    return clean(", ".join([view["state"], *counts]) + (f": {why}" if why else ""))


def _poll(
    api: Api,
    names: Sequence[str],
    well: Collection[str],
    until: float,
    seen: Callable[[list[View]], None],
) -> list[View]:
    began: dict[str, int] = {}  # the revisions at the first look: what failed before is over
    while True:
        views: list[View] = [api.get(path("models", name)).data for name in names]
        seen(views)
        for view in views:
            _check(view, began.setdefault(view["name"], view["revision"]))
        waiting = [view for view in views if not _is_done(view, well)]
        left_s = until - time.monotonic()
        if not waiting or left_s <= 0:
            return waiting
        time.sleep(min(_POLL_S, left_s))


def _watch_plain(
    api: Api, names: Sequence[str], well: Collection[str], until: float, _out: Console
) -> list[View]:
    """One line for each change, for logs."""
    last: dict[str, str] = {}

    def print_changes(views: list[View]) -> None:
        for view in views:
            text = describe(view)
            if last.get(view["name"]) != text:
                click.echo(f"{view['name']}: {text}", err=True)
                last[view["name"]] = text

    return _poll(api, names, well, until, print_changes)


def _watch_live(
    api: Api, names: Sequence[str], well: Collection[str], until: float, out: Console
) -> list[View]:
    began = time.monotonic()
    spinners = {name: Spinner("dots") for name in names}
    with Live(console=out, refresh_per_second=8) as live:

        def redraw(views: list[View]) -> None:
            table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
            for view in views:
                done = _is_done(view, well)
                mark = state(view["state"]) if done else spinners[view["name"]]
                table.add_row(mark, clean(view["name"]), describe(view))
            table.add_row("", "", f"{span(time.monotonic() - began)}")
            live.update(table)

        return _poll(api, names, well, until, redraw)
