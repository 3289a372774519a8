"""Exit codes that scripts can rely on, and the errors that carry them.

CliError (a click.ClickException)
├── RefusedError      1  the server, or a rule of this machine, said no
├── UnreachableError  3  no gateway answers
├── MissingError      4  no such object
├── StaleError        5  somebody else wrote in between, or the name is taken
├── NotReadyError     6  --wait ran out of time
├── NoPlaceError      7  a plan in which something has no place
├── DiffersError      8  a diff in which something differs; it says nothing more
└── RolledBackError   9  a rollout that failed

Usage errors (2) are click's own.
"""

import re
import sys

import click

OK, REFUSED, USAGE, UNREACHABLE, NOT_FOUND, CONFLICT, TIMED_OUT, NO_PLACE, DIFFERS = range(9)
ROLLED_BACK = 9
INTERRUPTED = 130

TABLE = (
    (OK, "done"),
    (REFUSED, "the server refused or failed; stderr has one line saying why"),
    (USAGE, "the command line is wrong"),
    (UNREACHABLE, "no gateway can be reached"),
    (NOT_FOUND, "no such model, worker, node, key, account, quota or pool"),
    (CONFLICT, "it was changed in between (--if-match), or exists already"),
    (TIMED_OUT, "--wait ran out of time"),
    (NO_PLACE, "plan: something has no place"),
    (DIFFERS, "diff: something differs"),
    (ROLLED_BACK, "the rollout failed: rolled back, or stands still"),
    (INTERRUPTED, "Ctrl-C"),
)


_COLOUR = re.compile(r"(\x1b\[[0-9;]*m|\r)")


class CliError(click.ClickException):
    """An expected failure: one line on stderr, no traceback."""

    def show(self, file: object = None) -> None:  # noqa: ARG002
        # One line whatever a server put into its message, so that scripts can log it.
        text = " ".join(clean(self.message).split())
        label = click.style("error:", fg="red", bold=True) if sys.stderr.isatty() else "error:"
        click.echo(f"{label} {text}", err=True)


class RefusedError(CliError):
    exit_code = REFUSED


class UnreachableError(CliError):
    exit_code = UNREACHABLE


class MissingError(CliError):
    exit_code = NOT_FOUND


class StaleError(CliError):
    exit_code = CONFLICT


class NotReadyError(CliError):
    exit_code = TIMED_OUT


class NoPlaceError(CliError):
    exit_code = NO_PLACE


class DiffersError(CliError):
    exit_code = DIFFERS

    def show(self, file: object = None) -> None:
        """What differs was shown already."""


class RolledBackError(CliError):
    exit_code = ROLLED_BACK


def clean(text: str) -> str:
    """*text* without what would steer a terminal: it may come from an engine or a client."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def clean_log(text: str) -> str:
    """The same for a log, whose colours and carriage returns may stay."""
    parts = _COLOUR.split(text)  # every second one is a colour or \\r
    return "".join(part if odd % 2 else clean(part) for odd, part in enumerate(parts))
