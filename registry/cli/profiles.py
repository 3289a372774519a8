"""`measure` and `profiles`: how long the steps of this fleet's engines take, for the planner."""

from collections.abc import Iterator
from typing import Any

import click
import msgspec
from rich.text import Text

from registry.cli.api import Answer, path
from registry.cli.command import (
    Session,
    admin_url_option,
    output_option,
    pass_session,
)
from registry.cli.complete import model_names, profile_ids
from registry.cli.exits import clean
from registry.cli.measuring import (
    Line,
    force_option,
    last_line,
    round_name,
    seconds_option,
    variant_option,
)
from registry.cli.output import Cell, ago, emit, facts, heading, show, show_rows
from registry.state import PROMPTS_ANSWER_TOKENS

_TITLES = ("PROFILE", "SOURCE", "ENGINE", "ON", "KV TOKENS>", "OVERHEAD>", "OFF BY>", "AGE")
_POINT_TITLES = ("REQUESTS>", "PROMPT>", "ANSWER>", "TIME>", "ROUNDS>")


@click.command()
@click.argument("model", shell_complete=model_names)
@variant_option
@seconds_option("120s")
@force_option
@admin_url_option
@output_option
@pass_session
def measure(
    session: Session, model: str, *, variant: str, seconds: int, force: bool, output: str
) -> None:
    """Measure how long a model's steps take, for `plan --traffic`.

    A ready worker of an aggregated variant is given prompts and answers, alone and many at once.
    What is seen is kept (`get profiles`): the planner goes by it, before any data from elsewhere,
    for this model on as many devices of this kind.
    """
    body: Line = {"variant": variant, "seconds": seconds, "force": force}
    with (
        session.api() as api,
        api.post_stream(path("models", model, "measure"), body) as response,
    ):
        last = last_line(response, "profiled", _progress)
    if not emit(Answer(response.status_code, msgspec.json.encode(last), last), output):
        _page(last["kept"])


def _progress(line: Line) -> str:
    if line["kind"] == "began":
        return (
            f"measuring {line['loads']} loads on {line['worker']} for about {line['seconds']:.0f} s"
        )
    if line["kind"] == "measured":
        return f"{round_name(line)}: {_load(line)}, {_time(line)}"
    return ""


def _load(point: Line) -> str:
    return (
        f"{point['requests']} x {point['prompt_tokens']} prompt and {point['answer_tokens']} "
        "answer tokens"
    )


def _time(point: Line) -> str:
    unit = "" if point["answer_tokens"] == PROMPTS_ANSWER_TOKENS else " a token"
    return f"{1000 * point['seconds']:.1f} ms{unit}"


def _page(view: Line) -> None:
    profile, fit = view["profile"], view["fit"]
    show_rows(_POINT_TITLES, map(_point, profile["points"]))
    least = "" if profile["is_kv_told"] else " at least: its engine does not tell"
    on = f"{profile['devices']}x {profile['device_model']}"
    heading("What the planner goes by")
    show(
        facts(
            [
                ("Profile", view["id"]),
                ("Model", profile["source"]),
                ("On", f"{on} with {profile['engine']} ({view['runtime']})"),
                ("A step", _ms(fit["base_s"])),
                ("1,000 prompt tokens", _ms(1000 * fit["prompt_token_s"])),
                ("An answer's token", _ms(fit["sequence_s"])),
                ("1,000 of its context", _ms(1000 * fit["context_token_s"])),
                ("A request", _ms(fit["overhead_s"])),
                ("Off by", f"{fit['error']:.1%}, in the median of what was measured"),
                ("KV cache", f"{profile['kv_tokens']} tokens{least}"),
            ]
        )
    )
    show(Text("\nmodelyard plan --traffic live", style="dim"))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _point(point: Line) -> tuple[Cell, ...]:
    return (
        str(point["requests"]),
        str(point["prompt_tokens"]),
        str(point["answer_tokens"]),
        _time(point),
        str(point["rounds"]),
    )


@click.group()
def profiles() -> None:
    """Manage measured step times."""


@profiles.command("delete")
@click.argument("profile", shell_complete=profile_ids)
@admin_url_option
@pass_session
def delete_profile(session: Session, profile: str) -> None:
    """Forget what was measured: the planner goes by its data again."""
    with session.api() as api:
        api.delete(path("profiles", profile))
    click.echo(f"profile/{clean(profile)} deleted")


@click.command("profiles")
@admin_url_option
@output_option
@pass_session
def get_profiles(session: Session, output: str) -> None:
    """Measured step times. `plan --profiles` takes what -o json or yaml writes."""
    with session.api() as api:
        answer = api.get("/profiles")
    if emit(answer, output):
        return
    if answer.data["items"]:
        show_rows(_TITLES, _rows(answer.data["items"]))
    else:
        click.echo("no profiles (`modelyard measure MODEL` makes one)", err=True)


def _rows(items: list[dict[str, Any]]) -> Iterator[tuple[Cell, ...]]:
    for item in items:
        profile, fit = item["profile"], item["fit"]
        yield (
            item["id"],
            profile["source"],
            profile["engine"],
            f"{profile['devices']}x {profile['device_model']}",
            f"{profile['kv_tokens']}" + ("" if profile["is_kv_told"] else "+"),
            _ms(fit["overhead_s"]),
            f"{fit['error']:.1%}",
            ago(item["measured_at"]),
        )
