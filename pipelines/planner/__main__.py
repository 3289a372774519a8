"""`modelyard plan --traffic`: which topology for which model on a fleet.

Asks nobody and changes nothing: it reads two files and prints.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click
import msgspec

from pipelines.parent import follow_parent
from pipelines.planner.demand import Objective
from pipelines.planner.extra import PlannerExtraError, require
from pipelines.planner.fleet import Fleet
from pipelines.planner.inputs import (
    HEADROOM_MAX,
    Traffic,
    fleet_from,
    fleet_of,
    traffic_from,
    traffic_of,
)
from pipelines.planner.page import show_plan
from pipelines.planner.views import Failed, Line, Noted, Planned, PlanView
from registry import spec as specs
from registry.cli.output import console
from registry.errors import SpecError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

Read = TypeVar("Read")


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for beside the files."""

    objective: Objective
    headroom: float
    seed: int


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traffic", type=_FILE, help="YAML: what each model is asked, and its SLO.")
@click.option("--fleet", type=_FILE, help="YAML: the nodes by kind.")
@click.option(
    "--given",
    type=click.File("rb"),
    metavar="FILE|-",
    help="JSON with traffic, fleet or both, for what has no file of its own.",
)
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml", "lines"]), default="table"
)
@click.option(
    "--objective",
    type=click.Choice([one.value for one in Objective]),
    default=Objective.GOODPUT.value,
    show_default=True,
    help="goodput: as much of the traffic within its SLO as can be; devices: all of it, or no "
    "plan. Either at the least cost, then on the fewest devices.",
)
@click.option(
    "--headroom",
    type=click.FloatRange(0, HEADROOM_MAX),
    default=0.0,
    show_default=True,
    help="Plan for this much more than is asked (0.3: 1.3 times), of models that say none.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same plan.")
def main(
    traffic: Path | None,
    fleet: Path | None,
    given: BinaryIO | None,
    output: str,
    **wished: Any,
) -> None:
    """Recommend a topology for each model.

    -o yaml prints specs that `modelyard apply` takes, -o json all there is, -o lines all of it as
    it comes about.
    """
    follow_parent()
    wish = msgspec.convert(wished, Wish)
    if output == "lines":
        _lines(lambda tell: _recommended(traffic, fleet, given, wish, tell))
        return
    told = console(stderr=True)
    try:
        with told.status("planning") as status:
            shown = _recommended(traffic, fleet, given, wish, status.update)
    except (SpecError, PlannerExtraError) as error:
        raise click.ClickException(str(error)) from None
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2))
    elif output == "yaml":
        made = [specs.from_data(model.spec) for model in shown.models if model.spec]
        click.echo(specs.to_yaml(made), nl=False)
    else:
        show_plan(shown)


def _recommended(
    traffic: Path | None,
    fleet: Path | None,
    given: BinaryIO | None,
    wish: Wish,
    tell: Callable[[str], None],
) -> PlanView:
    """Raises SpecError and PlannerExtraError."""
    require()
    from pipelines.planner.recommend import recommend

    asked, machines = _asked(traffic, fleet, given)
    return recommend(
        asked.with_headroom(wish.headroom),
        machines,
        folder=traffic.parent if traffic else None,
        objective=wish.objective,
        seed=wish.seed,
        tell=tell,
    )


def _lines(recommended: Callable[[Callable[[str], None]], PlanView]) -> None:
    """For programs: one JSON object a line, as it goes on. Gives way to whatever else runs here."""
    os.nice(10)
    try:
        shown = recommended(lambda text: _line(Noted(message=text)))
    except SpecError as error:
        _line(Failed(message=error.message, field=error.field))
    except PlannerExtraError as error:
        _line(Failed(message=str(error)))
    else:
        _line(Planned(plan=shown))


def _line(value: Line) -> None:
    click.echo(msgspec.json.encode(value))


def _asked(
    traffic: Path | None, fleet: Path | None, given: BinaryIO | None
) -> tuple[Traffic, Fleet]:
    """Raises SpecError, naming the file."""
    document: dict[str, Any] = msgspec.json.decode(given.read()) if given else {}
    for name, path in (("traffic", traffic), ("fleet", fleet)):
        if (name in document) == (path is not None):
            raise click.UsageError(f"--{name} is for the file of the {name}: it is needed once")
    return (
        _read(traffic, traffic_of) if traffic else traffic_from(document["traffic"]),
        _read(fleet, fleet_of) if fleet else fleet_from(document["fleet"]),
    )


def _read(path: Path, read: Callable[[str], Read]) -> Read:
    try:
        return read(path.read_text(encoding="utf-8"))
    except SpecError as error:
        raise SpecError(f"{path}: {error.field}".rstrip(": "), error.message) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(str(path), f"cannot be read: {error}") from None


if __name__ == "__main__":
    main()
