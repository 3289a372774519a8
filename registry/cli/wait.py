"""Waiting for models to become ready, with progress on stderr."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from registry.cli.api import Api, path
from registry.cli.exits import NotReadyError, clean
from registry.cli.output import console, span, state

_POLL_S = 1.0
_READY = "ready"
_WELL = frozenset({_READY, "asleep"})


def wait_until_ready(
    api: Api, names: Sequence[str], timeout_s: float, *, asleep_is_fine: bool = True
) -> None:
    """Raises NotReadyError when *timeout_s* is over, saying what each model waits for."""
    well = _WELL if asleep_is_fine else frozenset({_READY})
    out = console(stderr=True)
    watch = _watch_live if out.is_terminal else _watch_plain
    waiting = watch(api, names, well, time.monotonic() + timeout_s, out)
    if waiting:
        reasons = "; ".join(f"{view['name']} is {describe(view)}" for view in waiting)
        raise NotReadyError(f"not ready after {span(timeout_s)}: {reasons}")


def describe(view: dict[str, Any]) -> str:
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
        if worker["phase"] != _READY and worker["reason"]
    ]
    why = view["condition"] or (reasons[0] if reasons else "")
    return clean(", ".join([view["state"], *counts]) + (f": {why}" if why else ""))


def _poll(
    api: Api,
    names: Sequence[str],
    well: Collection[str],
    until: float,
    seen: Callable[[list[dict[str, Any]]], None],
) -> list[dict[str, Any]]:
    while True:
        views = [api.get(path("models", name)).data for name in names]
        seen(views)
        waiting = [view for view in views if view["state"] not in well]
        left_s = until - time.monotonic()
        if not waiting or left_s <= 0:
            return waiting
        time.sleep(min(_POLL_S, left_s))


def _watch_plain(
    api: Api, names: Sequence[str], well: Collection[str], until: float, _out: Console
) -> list[dict[str, Any]]:
    """One line for each change, for logs."""
    last: dict[str, str] = {}

    def print_changes(views: list[dict[str, Any]]) -> None:
        for view in views:
            text = describe(view)
            if last.get(view["name"]) != text:
                click.echo(f"{view['name']}: {text}", err=True)
                last[view["name"]] = text

    return _poll(api, names, well, until, print_changes)


def _watch_live(
    api: Api, names: Sequence[str], well: Collection[str], until: float, out: Console
) -> list[dict[str, Any]]:
    began = time.monotonic()
    spinners = {name: Spinner("dots") for name in names}
    with Live(console=out, refresh_per_second=8) as live:

        def redraw(views: list[dict[str, Any]]) -> None:
            table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
            for view in views:
                done = view["state"] in well
                mark = state(view["state"]) if done else spinners[view["name"]]
                table.add_row(mark, clean(view["name"]), describe(view))
            table.add_row("", "", f"{span(time.monotonic() - began)}")
            live.update(table)

        return _poll(api, names, well, until, redraw)
