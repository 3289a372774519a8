"""What the shell offers for names: asked of the gateway, and nothing where it does not answer."""

import click

from registry.cli.command import Session
from registry.cli.exits import CliError


def _names(context: click.Context, collection: str, field: str, incomplete: str) -> list[str]:
    try:
        with context.ensure_object(Session).api() as api:
            items = api.get(f"/{collection}").data["items"]
    except (CliError, click.UsageError):
        return []
    return [item[field] for item in items if item[field].startswith(incomplete)]


def model_names(context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    return _names(context, "models", "name", text)


def worker_ids(context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    return _names(context, "workers", "id", text)


def node_names(context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    return _names(context, "nodes", "name", text)


def owner_names(context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    return _names(context, "quotas", "owner", text)


def pool_names(context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    return _names(context, "pools", "name", text)


def key_ids(context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    return _names(context, "keys", "id", text)


def account_names(context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    return _names(context, "accounts", "name", text)


def profile_ids(context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    return _names(context, "profiles", "id", text)


def proposal_ids(context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    return _names(context, "proposals", "id", text)
