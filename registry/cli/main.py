"""The `modelyard` command: everything is put together here."""

import sys

import click

from registry.cli import (
    access,
    describe,
    drain,
    fleet,
    machine,
    models,
    plan,
    pools,
    quotas,
    reading,
    sleep,
    usage,
)
from registry.cli.command import RootGroup, admin_url_option

_SECTIONS = {
    "Run": ("up", "gateway", "controller", "runtimes", "db"),
    "Models": ("plan", "apply", "scale", "delete"),
    "Look": ("get", "describe", "usage", "logs", "events"),
    "Operate": (
        *("keys", "quotas", "pools", "cordon", "drain", "uncordon", "defragment"),
        *("sleep", "wake"),
    ),
    "More": ("completion", "version"),
}


@click.group("modelyard", cls=RootGroup, context_settings={"help_option_names": ["-h", "--help"]})
@admin_url_option
def cli() -> None:
    """One gateway, many models, each with its own pipeline.

    The admin key comes from MODELYARD_ADMIN_TOKEN, or from admin.token under MODELYARD_HOME on
    the machine where the gateway runs.
    """


cli.sections = _SECTIONS
for _command in (
    *(machine.up, machine.gateway, machine.controller, machine.runtimes, machine.db),
    *(plan.plan, models.apply, models.scale, models.delete),
    *(reading.get, describe.describe, usage.usage, fleet.logs, fleet.events),
    *(access.keys, quotas.quotas, pools.pools, fleet.cordon, drain.drain, fleet.uncordon),
    plan.defragment,
    *(sleep.sleep, sleep.wake),
    *(machine.completion, machine.version),
):
    cli.add_command(_command)


reading.get.add_command(pools.get_pools)


def main() -> None:
    """The console script. Exits with one of `exits.TABLE`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets ? instead of a traceback
    cli(prog_name="modelyard")


if __name__ == "__main__":
    main()
