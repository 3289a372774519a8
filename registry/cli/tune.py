"""`tune`: measures how an engine is best set, and proposes it."""

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
from registry.cli.complete import model_names
from registry.cli.exits import clean
from registry.cli.measuring import (
    Line,
    force_option,
    last_line,
    round_name,
    seconds_option,
    variant_option,
)
from registry.cli.output import Cell, emit, show, show_rows

TITLES = ("TOKENS>", "TOKENS/S>", "TTFT>", "OF BEST>", "ROUNDS>", "")


class Sizes(click.ParamType[list[int]]):
    """``256,512,1024``."""

    name = "sizes"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        return "T,T,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        if isinstance(value, list):
            return value
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r}, allowed are numbers as in 256,512,1024", param, ctx)


@click.group()
def tune() -> None:
    """Measure how an engine is best set, and propose it."""


@tune.command()
@click.argument("model", shell_complete=model_names)
@variant_option
@click.option(
    "--tokens", type=Sizes(), help="The sizes of batches to measure (default: 256 … 8192)."
)
@seconds_option("60s")
@force_option
@admin_url_option
@output_option
@pass_session
def prefill(
    session: Session,
    model: str,
    *,
    variant: str,
    tokens: list[int] | None,
    seconds: int,
    force: bool,
    output: str,
) -> None:
    """Find the smallest batch of prompt tokens that saturates a model's prefill.

    On a ready worker it measures throughput and time to the first token over batched prompt
    tokens. Larger batches than those at the knee make the first token later, and give no more:
    the size there is proposed. Nothing changes until you take the proposal.
    """
    body: Line = {"variant": variant, "seconds": seconds, "force": force}
    if tokens:
        body["tokens"] = tokens
    with (
        session.api() as api,
        api.post_stream(path("models", model, "tune-prefill"), body) as response,
    ):
        last = last_line(response, "tuned", _progress)
    if not emit(Answer(response.status_code, msgspec.json.encode(last), last), output):
        _page(last)


def _progress(line: Line) -> str:
    if line["kind"] == "began":
        sizes = ", ".join(map(str, line["tokens"]))
        return f"measuring {sizes} tokens on {line['worker']} for about {line['seconds']:.0f} s"
    if line["kind"] == "measured":
        return (
            f"{round_name(line)}: {line['tokens']} tokens in {line['prompts']} prompts, "
            f"{line['throughput']:.0f} tokens/s, TTFT {line['ttft_s']:.3f} s"
        )
    return ""


def _page(line: Line) -> None:
    show_rows(TITLES, _rows(line["points"]))
    show(
        Text(
            clean(
                f"\n{line['role']} of {line['model']}, variant {line['variant']}: {line['message']}"
            )
        )
    )
    if line["proposal"]:
        knee = next(point["tokens"] for point in line["points"] if point["knee"])
        show(Text(f"Proposed: {line['flag']} {knee} ({line['proposal']})"))
        show(Text(f"\nmodelyard proposals show {line['proposal']}", style="dim"))
        show(Text(f"modelyard proposals take {line['proposal']} --wait", style="dim"))


def _rows(points: list[Line]) -> Iterator[tuple[Cell, ...]]:
    for point in points:
        yield (
            str(point["tokens"]),
            f"{point['throughput']:.0f}",
            f"{point['ttft_s']:.3f} s",
            f"{point['of_best']:.0%}",
            str(point["rounds"]),
            Text("← knee", style="green") if point["knee"] else "",
        )
