"""Commands that change models: apply, scale, delete."""

import sys
from typing import TextIO

import click

from registry import spec as specs
from registry.cli.api import Answer, Api, path
from registry.cli.command import (
    Session,
    admin_url_option,
    dry_run_option,
    if_match_option,
    now_option,
    output_option,
    pass_session,
    wait_options,
)
from registry.cli.complete import model_names, node_names
from registry.cli.difference import show_diff
from registry.cli.exits import RefusedError, clean
from registry.cli.output import emit
from registry.cli.wait import wait_until_ready
from registry.errors import SpecError
from registry.yaml_documents import SPEC_FILE_BYTES_MAX


@click.command()
@click.option(
    "-f",
    "--file",
    type=click.File("r", encoding="utf-8"),
    required=True,
    metavar="FILE|-",
    help="YAML or JSON with one or several model specs; - reads standard input.",
)
@if_match_option
@dry_run_option
@now_option
@wait_options
@admin_url_option
@output_option
@pass_session
def apply(
    session: Session,
    file: TextIO,
    *,
    if_match: int | None,
    dry_run: bool,
    now: bool,
    wait: bool,
    timeout_s: int,
    output: str,
) -> None:
    """Make models be as a file says.

    Each model is written on its own: where one is refused, those before it stay applied.
    """
    found = read_specs(file)
    if if_match is not None and len(found) > 1:
        raise click.UsageError("--if-match is for a file with one model")
    headers = {} if if_match is None else {"if-match": str(if_match)}
    with session.api() as api:
        for spec in found:
            if output == "yaml" and len(found) > 1:
                click.echo("---")
            answer = api.put(
                path("models", spec.name),
                specs.to_json(spec),
                headers,
                dry_run=dry_run,
                now=now,
                along=[other.name for other in found if other.name in spec.fallback.models],
            )
            report(answer, output)
        if wait and not dry_run:
            wait_until_ready(api, [spec.name for spec in found], timeout_s)


def read_specs(file: TextIO) -> tuple[specs.ModelSpec, ...]:
    """Raises RefusedError, naming the file."""
    try:
        return specs.from_yaml(file.read(SPEC_FILE_BYTES_MAX + 1))
    except SpecError as error:
        raise RefusedError(f"{file.name}: {error}") from None
    except (UnicodeDecodeError, OSError) as error:
        raise RefusedError(f"{file.name} cannot be read: {error}") from None


def report(answer: Answer, output: str) -> None:
    """What a write did, or would do."""
    if emit(answer, output):
        return
    data = answer.data
    done = "created" if data["created"] else "changed" if data["changed"] else "unchanged"
    if data["dry_run"] and done != "unchanged":
        done = f"would be {done}"
    revision = f" (revision {data['revision']})" if data["revision"] else ""
    click.echo(f"model/{clean(data['name'])} {done}{revision}")
    for warning in data.get("warnings", ()):
        click.echo(f"warning: {clean(warning)}", err=True)
    if data["dry_run"] and data["changed"]:
        show_diff(data["diff"])


@click.command()
@click.argument("name", shell_complete=model_names)
@click.option("--variant", help="Which one, where the model has several.")
@click.option("--workers", type=int, help="Workers of an aggregated variant.")
@click.option("--prefill", type=int, help="Prefill workers of a disaggregated variant.")
@click.option("--decode", type=int, help="Decode workers of a disaggregated variant.")
@if_match_option
@dry_run_option
@wait_options
@admin_url_option
@output_option
@pass_session
def scale(
    session: Session,
    name: str,
    *,
    variant: str | None,
    workers: int | None,
    prefill: int | None,
    decode: int | None,
    if_match: int | None,
    dry_run: bool,
    wait: bool,
    timeout_s: int,
    output: str,
) -> None:
    """Change how many workers a model has."""
    wish = {"variant": variant, "workers": workers, "prefill": prefill, "decode": decode}
    body = {field: value for field, value in wish.items() if value is not None}
    if not body.keys() - {"variant"}:
        raise click.UsageError("say what to scale: --workers, or --prefill and --decode")
    headers = {} if if_match is None else {"if-match": str(if_match)}
    with session.api() as api:
        where = path("models", name, "scale")
        report(api.patch(where, body, headers, dry_run=dry_run), output)
        if wait and not dry_run:
            wait_until_ready(api, [name], timeout_s)


@click.group()
def delete() -> None:
    """Delete a model, or forget a node."""


@delete.command("model")
@click.argument("name", shell_complete=model_names)
@click.option("-y", "--yes", is_flag=True, help="Do not ask, also on a terminal.")
@if_match_option
@admin_url_option
@pass_session
def delete_model(session: Session, name: str, *, yes: bool, if_match: int | None) -> None:
    """Stop a model's workers and take it out of the registry (its revisions stay)."""
    headers = {} if if_match is None else {"if-match": str(if_match)}
    with session.api() as api:
        if not yes and sys.stdin.isatty():
            _confirm(api, name)
        api.delete(path("models", name), headers)
    click.echo(f"model/{clean(name)} deleted; its workers stop now")


@delete.command("node")
@click.argument("name", shell_complete=node_names)
@admin_url_option
@pass_session
def delete_node(session: Session, name: str) -> None:
    """Forget a node that does not report any more and has no worker."""
    with session.api() as api:
        api.delete(path("nodes", name))
    click.echo(f"node/{clean(name)} forgotten")


def _confirm(api: Api, name: str) -> None:
    data = api.get(path("models", name)).data
    running = sum(len(variant["workers"]) for variant in data["variants"])
    click.confirm(f"Delete {clean(name)} and stop its {running} workers?", abort=True, err=True)
