"""`plan --traffic`: which topology each model should have. The planner is a process of its own."""

import subprocess
import sys
from typing import Any

import msgspec

from registry.cli.api import Api
from registry.cli.exits import RefusedError

LIVE = "live"

View = dict[str, Any]


def live(api: Api, *, fleet: bool, traffic: bool, profiles: bool, seconds: int) -> View:
    """What of all is wanted as it is now, in the planner's form. Raises CliError."""
    told = api.get("/recommendations/live", seconds=seconds).data
    given: View = {}
    if profiles:
        given["profiles"] = api.get("/profiles").data
    if fleet:
        if not told["fleet"]:
            raise RefusedError("no node answers: name a fleet with --fleet FILE")
        given["fleet"] = told["fleet"]
    if traffic:
        if not told["traffic"]:
            why = "; ".join(f"{name}: {reason}" for name, reason in told["left_out"].items())
            raise RefusedError(
                "no model to plan for was asked in that time"
                + (f" ({why})" if why else "")
                + ": name the traffic with --traffic FILE"
            )
        given["traffic"] = told["traffic"]
    return given


def run(*arguments: str, given: View) -> int:
    """The planner's exit code. *given* is what it reads from its standard input."""
    command = [sys.executable, "-m", "pipelines.planner", *arguments]
    done = subprocess.run(command, input=msgspec.json.encode(given), check=False)  # noqa: S603
    return done.returncode
