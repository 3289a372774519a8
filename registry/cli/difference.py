"""How a diff looks: a line for each field, then what happens to workers and traffic."""

from collections.abc import Iterator
from typing import Any

import click
import msgspec
from rich.text import Text

from registry.cli.exits import clean
from registry.cli.output import show, span

_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
_VALUE_CHARS_MAX = 200

View = dict[str, Any]


def show_diff(view: View) -> None:
    """One model's `DiffView`."""
    name = clean(view["name"])
    before, after = view["from_revision"], view["to_revision"]
    if not view["changes"]:
        click.echo(f"model/{name}: nothing differs (revision {after})")
        return
    show(Text(f"model/{name}: {_way(before, after)}", style="bold"))
    for change in view["changes"]:
        show(_line(change))
    workers = [text for item in view["workers"] for text in _workers(item)]
    for text in workers or ["no worker is replaced, started or stopped"]:
        show(Text(clean(f"  workers: {text}")))
    if view["rollout"]:
        show(Text(clean(f"  rollout: {_rollout(view['rollout'])}")))


def _way(before: int, after: int) -> str:
    return f"revision {before} → {after}" if before else f"new, revision {after}"


def _line(change: View) -> Text:
    mark, style = _MARKS[change["kind"]]
    values = {
        "added": _value(change["after"]),
        "removed": _value(change["before"]),
        "changed": f"{_value(change['before'])} → {_value(change['after'])}",
    }
    return Text(clean(f"  {mark} {change['field']}: {values[change['kind']]}"), style=style)


def _value(value: Any) -> str:
    """As YAML would have it on one line; texts without quotes unless they would be invisible."""
    if isinstance(value, str) and value.strip() == value and value:
        text = value
    elif value == {}:
        text = "{} (its defaults)"
    else:
        text = msgspec.json.encode(value).decode()
    return text if len(text) <= _VALUE_CHARS_MAX else text[: _VALUE_CHARS_MAX - 1] + "…"


def _workers(item: View) -> Iterator[str]:
    """``default decode: 2 replaced, 1 started (3 go on)``; nothing where all go on."""
    parts = [f"{item[word]} {word}" for word in ("replaced", "started", "stopped") if item[word]]
    if parts:
        rest = f" ({item['kept']} go on)" if item["kept"] else ""
        yield f"{item['variant']} {item['role']}: {', '.join(parts)}{rest}"


def _rollout(item: View) -> str:
    """The steps in a sentence."""
    if not item["changes_workers"]:
        return f"none is needed, revision {item['to_revision']} counts at once"
    steps = " → ".join(f"{percent} %" for percent in item["canary"])
    if len(item["canary"]) == 1:
        text = f"all of the traffic moves from revision {item['from_revision']} in one step"
    else:
        text = f"traffic moves from revision {item['from_revision']} in steps of {steps}"
        if item["promote"] == "manual":
            text += ", each led on by `rollout resume`"
        elif item["pause_s"]:
            text += f", each for {span(item['pause_s'])} at least"
    if item["gate"]:
        text += ", if the gate holds"
    if item["supersedes"]:
        text += f"; the one under way to revision {item['supersedes']} ends"
    return text
