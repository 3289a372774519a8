"""The `modelyard` command: everything is put together here."""

import sys

import click

from registry.cli import (
    access,
    accounts,
    database,
    describe,
    drain,
    fleet,
    machine,
    models,
    plan,
    pools,
    profiles,
    proposals,
    quotas,
    reading,
    revisions,
    rollout,
    sleep,
    transfer,
    tune,
    usage,
)
from registry.cli.command import RootGroup, admin_url_option

_SECTIONS = {
    "Run": ("up", "gateway", "controller", "runtimes", "db"),
    "Models": ("plan", "diff", "apply", "rollout", "scale", "rollback", "delete"),
    "Look": ("get", "describe", "history", "usage", "logs", "events"),
    "Operate": ("keys", "accounts", "quotas", "pools", "cordon", "drain", "uncordon", "defragment"),
    "Tune": ("sleep", "wake", "tune", "measure", "profiles", "proposals"),
    "Move": ("export", "restore"),
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
    *(machine.up, machine.gateway, machine.controller, machine.runtimes, database.db),
    *(plan.plan, models.apply, rollout.rollout, models.scale, models.delete),
    *(revisions.diff, revisions.history, revisions.rollback),
    *(reading.get, describe.describe, usage.usage, fleet.logs, fleet.events),
    *(access.keys, accounts.accounts, quotas.quotas, pools.pools),
    *(fleet.cordon, drain.drain, fleet.uncordon, plan.defragment),
    *(tune.tune, profiles.measure, profiles.profiles, proposals.proposals),
    *(sleep.sleep, sleep.wake),
    *(transfer.export, transfer.restore),
    *(machine.completion, machine.version),
):
    cli.add_command(_command)


reading.get.add_command(pools.get_pools)
reading.get.add_command(profiles.get_profiles)


def main() -> None:
    """The console script. Exits with one of `exits.TABLE`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets ? instead of a traceback
    cli(prog_name="modelyard")


if __name__ == "__main__":
    main()
