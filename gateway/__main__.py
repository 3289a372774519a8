"""`python -m gateway up|serve`: what `modelyard up` and `modelyard gateway` run."""

import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
import uvloop

from gateway.limits import LedgerError
from gateway.serve import serve as serve_gateway
from gateway.serve import serve_process
from gateway.up import UpError
from gateway.up import up as run_up
from pipelines.cluster.base import ClusterError
from pipelines.parent import follow_parent
from pipelines.runtimes import RuntimeUnavailableError
from pipelines.weights import WeightsError
from registry.errors import RegistryError
from registry.logs import configure_logs
from registry.settings import PREFIX, Settings, SettingsError, load
from registry.spec import ModelSpec, from_yaml


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Modelyard's processes."""


@main.command()
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Model specs to apply; may be given more than once.",
)
@click.option("--host", help="Address of the inference API.  [MODELYARD_HOST, 127.0.0.1]")
@click.option("--port", help="Port of the inference API.  [MODELYARD_PORT, 8000]")
@click.option("--admin-port", help="Port of the admin API.  [MODELYARD_ADMIN_PORT, 8001]")
@click.option(
    "--cluster",
    type=click.Choice(["local", "ray"]),
    help="This machine alone, or a Ray cluster.  [MODELYARD_CLUSTER, local]",
)
@click.option(
    "--address",
    "ray_address",
    metavar="HOST:PORT",
    help="The Ray cluster's head.  [MODELYARD_RAY_ADDRESS, auto]",
)
@click.option("--home", help="Folder of all state.  [MODELYARD_HOME, ~/.modelyard]")
@click.option(
    "--ready-timeout",
    "ready_timeout_s",
    default=1800.0,
    show_default=True,
    help="Seconds to wait until every model answers.",
)
def up(files: tuple[Path, ...], ready_timeout_s: float, **given: str | None) -> None:
    """Run everything on this machine: gateway, controller, workers.

    Installs the engine runtimes and fetches the weights that the specs need, starts everything,
    says when it is ready, and stops it all on Ctrl-C. With --cluster ray, workers are on all nodes
    of a Ray cluster, of which this machine is one; they go on after Ctrl-C. Each node has its
    runtimes already (`modelyard runtimes install`) and fetches its weights itself.
    """
    for name, value in given.items():
        if value is not None:
            os.environ[PREFIX + name.upper()] = value  # the parts read it from there, too
    configure_logs("warning")
    try:
        specs = _read(files)
        run_up(_settings(), specs, ready_timeout_s=ready_timeout_s)
    except (UpError, ClusterError, RegistryError, RuntimeUnavailableError, WeightsError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@main.command()
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Processes that serve inference, on one port.  [MODELYARD_GATEWAY_WORKERS, 1]",
)
def serve(workers: int | None) -> None:
    """Run the gateway alone: the inference and the admin listener."""
    if workers is not None:
        os.environ[PREFIX + "GATEWAY_WORKERS"] = str(workers)
    _run(serve_gateway)


@main.command(hidden=True)
@click.option("--number", type=int, required=True)
def inference(number: int) -> None:
    """One of the processes that `serve --workers` keeps."""
    _run(lambda settings: serve_process(settings, number))


@main.command(hidden=True)
def schema() -> None:
    """The admin API as an OpenAPI document."""
    from gateway.admin.app import openapi_document

    click.echo(json.dumps(openapi_document(), indent=1))


def _run(work: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    settings = _settings()
    configure_logs(settings.log_level)
    follow_parent()
    try:
        uvloop.run(work(settings))
    except (RegistryError, LedgerError, ClusterError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _settings() -> Settings:
    try:
        return load()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def _read(files: tuple[Path, ...]) -> tuple[ModelSpec, ...]:
    specs: list[ModelSpec] = []
    for file in files:
        specs.extend(from_yaml(file.read_text()))
    return tuple(specs)


if __name__ == "__main__":
    main(prog_name="modelyard")
