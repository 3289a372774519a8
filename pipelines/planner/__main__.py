"""`modelyard plan --traffic`: which topology for which model on a fleet.

Asks nobody and changes nothing: it reads files and prints.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click
import msgspec

from pipelines.parent import follow_parent
from pipelines.planner.demand import Objective
from pipelines.planner.extra import PlannerExtraError, require
from pipelines.planner.inputs import (
    HEADROOM_MAX,
    fleet_from,
    fleet_of,
    profiles_from,
    profiles_of,
    traffic_from,
    traffic_of,
)
from pipelines.planner.kept import cache_folder
from pipelines.planner.page import show_plan
from pipelines.planner.views import Failed, Line, Noted, Planned, PlanView
from registry import spec as specs
from registry.cli.output import console
from registry.errors import SpecError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

Read = TypeVar("Read")

_NO_PROFILES: dict[str, Any] = {"items": []}  # where nobody gives any


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for beside the files."""

    objective: Objective
    headroom: float
    cache: bool
    seed: int


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traffic", type=_FILE, help="YAML: what each model is asked, and its SLO.")
@click.option("--fleet", type=_FILE, help="YAML: the nodes by kind.")
@click.option(
    "--profiles", type=_FILE, help="What was measured: `modelyard get profiles -o json` writes it."
)
@click.option(
    "--given",
    type=click.File("rb"),
    metavar="FILE|-",
    help="JSON with traffic, fleet, profiles or some of them, for what has no file of its own.",
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
@click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Keep what the measured data says in the user's cache folder, for the next plan.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same plan.")
def main(
    traffic: Path | None,
    fleet: Path | None,
    profiles: Path | None,
    given: BinaryIO | None,
    output: str,
    **wished: Any,
) -> None:
    """Recommend a topology for each model.

    -o yaml prints specs that `modelyard apply` takes, -o json all there is, -o lines all of it as
    it comes about.
    """
    follow_parent()
    files = {"traffic": traffic, "fleet": fleet, "profiles": profiles}
    wish = msgspec.convert(wished, Wish)
    if output == "lines":
        _lines(lambda tell: _recommended(files, given, wish, tell))
        return
    told = console(stderr=True)
    try:
        with told.status("planning") as status:
            shown = _recommended(files, given, wish, status.update)
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
    files: Mapping[str, Path | None],
    given: BinaryIO | None,
    wish: Wish,
    tell: Callable[[str], None],
) -> PlanView:
    """Raises SpecError and PlannerExtraError."""
    require()
    from pipelines.planner.recommend import recommend
    from pipelines.planner.silicon import kept_in

    document: dict[str, Any] = msgspec.json.decode(given.read()) if given else {}
    for name, path in files.items():
        if name in document and path is not None:
            raise click.UsageError(f"--{name} is given twice: as a file, and in --given")
        if name not in document and path is None and name != "profiles":
            raise click.UsageError(f"--{name} is missing")
    traffic = files["traffic"]
    asked = _one(traffic, document, "traffic", traffic_of, traffic_from)
    fleet = _one(files["fleet"], document, "fleet", fleet_of, fleet_from)
    profiles = _one(files["profiles"], document, "profiles", profiles_of, profiles_from)
    cache = cache_folder() if wish.cache else None
    with kept_in(cache, _warn) if cache else nullcontext():
        return recommend(
            asked.with_headroom(wish.headroom),
            fleet,
            profiles,
            folder=traffic.parent if traffic else None,
            objective=wish.objective,
            seed=wish.seed,
            tell=tell,
        )


def _warn(text: str) -> None:
    click.echo(text, err=True)


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


def _one(
    path: Path | None,
    document: Mapping[str, Any],
    name: str,
    of_text: Callable[[str], Read],
    of_data: Callable[[Any], Read],
) -> Read:
    """Of its file, else of what was given. Raises SpecError, naming the file."""
    return _read(path, of_text) if path else of_data(document.get(name, _NO_PROFILES))


def _read(path: Path, read: Callable[[str], Read]) -> Read:
    try:
        return read(path.read_text(encoding="utf-8"))
    except SpecError as error:
        raise SpecError(f"{path}: {error.field}".rstrip(": "), error.message) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(str(path), f"cannot be read: {error}") from None


if __name__ == "__main__":
    main()
