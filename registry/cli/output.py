"""How answers look: tables for people, the API's own JSON (or the same as YAML) for programs."""

import math
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click
import msgspec
import yaml
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from registry.cli.api import Answer
from registry.cli.exits import clean

_UNWRAPPED_COLUMNS = 10_000  # in a pipe nothing is wrapped: a line is a row
STYLES = {
    "ready": "green",
    "active": "green",
    "starting": "yellow",
    "preparing": "yellow",
    "assigned": "yellow",
    "degraded": "yellow",
    "rolling": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "deleting": "yellow",
    "cordoned": "yellow",
    "quarantine": "red",
    "progressing": "yellow",
    "paused": "yellow",
    "done": "green",
    "rolled-back": "red",
    "stalled": "red",
    "superseded": "dim",
    "unavailable": "red",
    "failed": "red",
    "lost": "red",
    "unknown": "red",
    "revoked": "red",
    "expired": "red",
    "falling-asleep": "blue",
    "asleep": "blue",
    "waking": "yellow",
    "stopped": "dim",
}
_GAP = 2
_LAST_MIN = 12
_FEW = 10  # below this the next smaller unit is worth its place
_THREE_DIGITS = 100
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

Cell = str | Text


def console(*, stderr: bool = False) -> Console:
    """Colours only on a terminal; markup off, so that no name or message can be markup."""
    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() else _UNWRAPPED_COLUMNS
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=wide)


def show(renderable: RenderableType, *, columns_min: int = 0) -> None:
    """Prints without the padding that would trail each line in a pipe."""
    out = console()
    out.width = max(out.width, columns_min)
    if out.is_terminal:
        out.print(renderable)
        return
    with out.capture() as captured:
        out.print(renderable)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def emit(answer: Answer, output: str) -> bool:
    """Prints for programs where that is asked for; False means: show it to people."""
    if output == "json":
        click.echo(msgspec.json.format(answer.raw, indent=2))
    elif output == "yaml":
        dumped = yaml.safe_dump(answer.data, sort_keys=False, allow_unicode=True)
        click.echo(dumped, nl=False)
    return output != "table"


def show_rows(titles: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Prints `rows_table`, beyond the terminal's edge if need be."""
    table, columns_min = rows_table(titles, rows)
    show(table, columns_min=columns_min)


def rows_table(titles: Sequence[str], rows: Iterable[Sequence[Cell]]) -> tuple[Table, int]:
    """A table without lines, and how many columns it needs. A title that ends in ``>`` is aligned
    right.

    The last column wraps where the terminal is narrow. All others stay whole, beyond the
    terminal's edge if need be: half an id is of no use.
    """
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for position, title in enumerate(titles):
        table.add_column(
            title.rstrip(">"),
            justify="right" if title.endswith(">") else "left",
            no_wrap=position < len(titles) - 1,
            overflow="fold",
        )
    whole = [len(title.rstrip(">")) for title in titles]
    for row in rows:
        cells = [cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row]
        whole = [max(width, cell.cell_len) for width, cell in zip(whole, cells, strict=True)]
        table.add_row(*cells)
    return table, sum(whole[:-1]) + _GAP * len(whole) + min(whole[-1], _LAST_MIN)


def facts(pairs: Iterable[tuple[str, Cell]]) -> Table:
    """Names and values, one pair a line; empty values are left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            table.add_row(name, clean(value) if isinstance(value, str) else value)
    return table


def heading(text: str) -> None:
    show(Text(f"\n{text}", style="bold"))


def state(word: str) -> Text:
    return Text(word, style=STYLES.get(word, ""))


def ago(iso: str | None) -> str:
    """A time as its distance from now, which is what people look for."""
    if not iso:
        return "-"
    return span((datetime.now(UTC) - datetime.fromisoformat(iso)).total_seconds())


def until(iso: str | None) -> str:
    if not iso:
        return "never"
    left_s = (datetime.fromisoformat(iso) - datetime.now(UTC)).total_seconds()
    return f"in {span(left_s)}" if left_s > 0 else f"{span(-left_s)} ago"


def span(seconds: float) -> str:
    """At most two units: ``42s``, ``3m10s``, ``5h2m``, ``12d``."""
    whole = max(0, math.floor(seconds + 0.5))
    days, hours, minutes = whole // 86_400, whole // 3600, whole // 60
    if days:
        return f"{days}d{hours % 24}h" if days < _FEW else f"{days}d"
    if hours:
        return f"{hours}h{minutes % 60}m"
    if minutes:
        return f"{minutes}m{whole % 60}s" if minutes < _FEW else f"{minutes}m"
    return f"{whole}s"


def size(count_bytes: int) -> str:
    step = max(0, min((count_bytes.bit_length() - 1) // 10, len(_UNITS) - 1))
    value = count_bytes / 1024**step
    return f"{value:.{1 if step and value < _THREE_DIGITS else 0}f} {_UNITS[step]}"
