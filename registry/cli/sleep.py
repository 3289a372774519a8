"""`sleep` and `wake`: a model's workers by hand, whatever its idle time says."""

import time

import click

from registry.cli.api import Answer, Api, path
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

_POLL_S = 0.5
_NONE = "has no worker that sleeps"


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
    """Wake a model up before somebody asks for it.

    One that is falling asleep cannot be woken before it sleeps; --wait waits for that, too.
    """
    until = time.monotonic() + (timeout_s if wait else 0.0)
    with session.api() as api:
        answer = api.post(path("models", name, "wake"))
        falls = not answer.data["items"] and _falls_asleep(api, name)
        while falls and time.monotonic() < until:
            time.sleep(_POLL_S)
            falls = _falls_asleep(api, name)  # before it is asked: it may sleep in between
            answer = api.post(path("models", name, "wake"))
            falls = falls and not answer.data["items"]
        model = f"model/{clean(name)}"
        nothing = "is falling asleep: wake it when it sleeps" if falls else _NONE
        _told(answer, output, f"{model} wakes up", f"{model} {nothing}")
        if wait:
            wait_until_ready(api, [name], timeout_s, asleep_is_fine=False)


def _falls_asleep(api: Api, name: str) -> bool:
    workers = api.get("/workers", model=name).data["items"]
    return any(worker["phase"] == "falling-asleep" for worker in workers)


def _told(answer: Answer, output: str, done: str, nothing: str) -> None:
    if emit(answer, output):
        return
    workers = answer.data["items"]
    click.echo(
        f"{done}: {', '.join(clean(item['id']) for item in workers)}" if workers else nothing
    )
