"""`plan --traffic`: which topology each model should have. The planner is a process of its own."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from registry.cli.api import Api
from registry.cli.exits import RefusedError

LIVE = "live"
_AWAY = frozenset({"lost", "quarantine"})

View = dict[str, Any]


def live_fleet(api: Api) -> View:
    """The nodes that are there, by kind, as the planner's files have them."""
    kinds: Counter[tuple[str, int, int]] = Counter()
    for node in api.get("/nodes").data["items"]:
        if node["state"] in _AWAY:
            continue
        by_model: dict[str, list[View]] = {}
        for device in node["devices"]:
            if not device["quarantine"]:
                by_model.setdefault(device["model"], []).append(device)
        for model, devices in by_model.items():
            islands = Counter(device["island"] for device in devices if device["island"])
            sizes = set(islands.values())
            island = sizes.pop() if len(sizes) == 1 and len(islands) > 1 else 0
            kinds[model, len(devices), island] += 1
    if not kinds:
        raise RefusedError("there is no node to plan for: name a fleet with --fleet")
    return {
        "nodes": [
            {"device_model": model, "count": count, "devices": devices, "island": island}
            for (model, devices, island), count in sorted(kinds.items())
        ]
    }


def live_traffic(api: Api, since_s: int) -> View:
    """What was asked of each model that promises something, on average since then."""
    since = datetime.now(UTC) - timedelta(seconds=since_s)
    used = api.get("/usage", since=f"{since:%Y-%m-%dT%H:%M:%SZ}", by=["model"]).data["items"]
    models = []
    for total in used:
        answered = total["requests"] - total["errors"]
        if answered < 1 or not total["completion_tokens"]:
            continue
        spec = api.get(f"/models/{total['model']}").data["spec"]
        slo = spec.get("slo", {})
        if not (spec.get("source") and slo.get("ttft_s") and slo.get("tpot_s")):
            continue
        models.append(
            {
                "name": total["model"],
                "source": spec["source"],
                "slo": slo,
                "requests_per_s": answered / since_s,
                "prompt_tokens": max(1.0, total["prompt_tokens"] / answered),
                "answer_tokens": max(1.0, total["completion_tokens"] / answered),
            }
        )
    if not models:
        raise RefusedError(
            "no model that was asked in that time has both a source and an slo (ttft_s, tpot_s): "
            "name the traffic with --traffic FILE"
        )
    return {"models": models}


def run(*arguments: str, given: View | None = None) -> int:
    """The planner's exit code. *given* is what it reads from its standard input."""
    text = msgspec.json.encode(given) if given is not None else None
    command = [sys.executable, "-m", "pipelines.planner", *arguments]
    return subprocess.run(command, input=text, check=False).returncode  # noqa: S603 - ours
