"""`sleep` and `wake`: a model's workers by hand, whatever its idle time says."""

import click

from registry.cli.api import Answer, path
from registry.cli.command import (
    Session,
    admin_url_option,
    output_option,
    pass_session,
    wait_options,
)
from registry.cli.complete import model_names
from registry.cli.exits import clean
from registry.cli.output import emit
from registry.cli.wait import wait_until_ready


@click.command()
@click.argument("name", shell_complete=model_names)
@admin_url_option
@output_option
@pass_session
def sleep(session: Session, name: str, *, output: str) -> None:
    """Put a model to sleep until somebody asks for it.

    Its workers finish what they have. As lightly as their engine can they sleep, or are stopped;
    what they give back of their devices others may use meanwhile.
    """
    with session.api() as api:
        answer = api.post(path("models", name, "sleep"))
    model = f"model/{clean(name)}"
    _told(answer, output, f"{model} falls asleep", f"{model} has no ready worker")


@click.command()
@click.argument("name", shell_complete=model_names)
@wait_options
@admin_url_option
@output_option
@pass_session
def wake(session: Session, name: str, *, wait: bool, timeout_s: int, output: str) -> None:
    """Wake a model up before somebody asks for it."""
    with session.api() as api:
        answer = api.post(path("models", name, "wake"))
        model = f"model/{clean(name)}"
        _told(answer, output, f"{model} wakes up", f"{model} has no worker that sleeps")
        if wait:
            wait_until_ready(api, [name], timeout_s, asleep_is_fine=False)


def _told(answer: Answer, output: str, done: str, nothing: str) -> None:
    if emit(answer, output):
        return
    workers = answer.data["items"]
    click.echo(
        f"{done}: {', '.join(clean(item['id']) for item in workers)}" if workers else nothing
    )
