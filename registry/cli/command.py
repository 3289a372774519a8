"""What all commands share: the session, the common options, exit codes, the help's layout."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from registry.cli import exits
from registry.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from registry.cli.api import Api

_F = TypeVar("_F", bound=Callable[..., Any])

FORMATS = ("table", "json", "yaml")
_DURATION = re.compile(r"(\d{1,9})([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


class Session:
    """What a command needs, made when first used."""

    admin_url = ""

    @cached_property
    def settings(self) -> Settings:
        try:
            return load()
        except SettingsError as error:
            raise click.UsageError(str(error)) from None

    def api(self) -> "Api":
        from registry.cli.api import Api
        from registry.cli.credential import admin_token

        url = self.admin_url or self.settings.admin
        return Api(url, admin_token(self.settings))


pass_session = click.make_pass_decorator(Session, ensure=True)


def _take_url(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value:
        context.ensure_object(Session).admin_url = value


def admin_url_option(function: _F) -> _F:
    return click.option(
        "--admin-url",
        metavar="URL",
        expose_value=False,
        callback=_take_url,
        help="Where the admin API answers (default: MODELYARD_ADMIN_URL, else this machine).",
    )(function)


def output_option(function: _F) -> _F:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="For people, or for programs: the API's answer as it is.",
    )(function)


def if_match_option(function: _F) -> _F:
    return click.option(
        "--if-match",
        type=click.INT,
        metavar="GENERATION",
        help="Only if the model is still at this generation (exit code 5 if not).",
    )(function)


def dry_run_option(function: _F) -> _F:
    return click.option(
        "--dry-run", is_flag=True, help="Say what would change, and how; write nothing."
    )(function)


def now_option(function: _F) -> _F:
    return click.option(
        "--now", is_flag=True, help="All traffic in one step, whatever the spec's rollout says."
    )(function)


def wait_options(function: _F) -> _F:
    timeout = click.option(
        "--timeout",
        "timeout_s",
        type=Duration(),
        default="10m",
        show_default=True,
        help="How long --wait waits (exit code 6 after that).",
    )
    wait = click.option("--wait", is_flag=True, help="Wait until what was written is ready.")
    return wait(timeout(function))


class Duration(click.ParamType[int]):
    """``30d``, ``12h``, ``45m``, ``90s`` or ``90`` → seconds."""

    name = "duration"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        return "DURATION"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(str(value))
        if match is None or not int(match[1]):
            self.fail(f"{value!r}, allowed is a length of time as in 90s, 45m or 30d", param, ctx)
        return int(match[1]) * _SECONDS[match[2]]


class PluralGroup(click.Group):
    """`get model` is as good as `get models`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, f"{cmd_name}s")


class RootGroup(click.Group):
    """The top command: its help is in sections, and every way out has its exit code."""

    sections: Mapping[str, Sequence[str]] = {}

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            code = exits.INTERRUPTED
        sys.exit(code if isinstance(code, int) else exits.OK)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        limit = formatter.width - 6 - max(map(len, self.commands))
        for title, names in self.sections.items():
            commands = [(name, self.commands[name]) for name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(name, command.get_short_help_str(limit)) for name, command in commands],
                    col_max=24,
                )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in exits.TABLE])
