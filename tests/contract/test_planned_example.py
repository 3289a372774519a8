"""The example of a plan: what is printed for it is applied unchanged, and every worker laid."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from admin_world import World, served
from click.testing import CliRunner
from planner_world import NAMES, node_reports
from test_cli_commands import Cli

from pipelines.awake.places import place_awake_or_asleep
from pipelines.engines import runtime_of
from pipelines.planner.__main__ import main
from pipelines.planner.inputs import fleet_of
from pipelines.reconciler import reconcile
from pipelines.topology import expand
from registry import spec
from registry.state import Phase
from registry.store import Store

EXAMPLE = Path(__file__).parents[2] / "examples" / "planner"
PLANNED = Path(__file__).parent / "planned_example.yaml"


def registry(made: World, use: Callable[[Store], Awaitable[None]]) -> None:
    async def used() -> None:
        store = await Store.open(f"sqlite+aiosqlite:///{made.folder / 'modelyard.db'}")
        try:
            await use(store)
        finally:
            await store.aclose()

    asyncio.run(used())


@pytest.mark.timeout(600)
def test_the_kept_plan_is_what_the_planner_prints(monkeypatch: pytest.MonkeyPatch):
    """Half a minute of CPU. Where the planner changes, what it prints goes into that file."""
    for what in ("_alternatives", "frontier"):  # no spec is made of them, and they take long
        monkeypatch.setattr(f"pipelines.planner.plan.{what}", lambda *_: ())
    files = ["--traffic", str(EXAMPLE / "traffic.yaml"), "--fleet", str(EXAMPLE / "fleet.yaml")]
    printed = CliRunner().invoke(main, [*files, "-o", "yaml"])
    assert printed.exit_code == 0, printed.output
    assert printed.stdout == PLANNED.read_text()


def test_the_plan_is_applied_unchanged_and_every_worker_is_laid(tmp_path: Path):
    machines = fleet_of((EXAMPLE / "fleet.yaml").read_text())
    planned = {one.name: one for one in spec.from_yaml(PLANNED.read_text())}

    async def report(store: Store) -> None:
        await store.report_nodes(node_reports(machines))

    async def turn(store: Store) -> None:
        """The controller's: reconcile, place, commit, which verifies it once more."""
        snapshot = await store.snapshot()
        assert {m.name: m.spec for m in snapshot.models if m.name in planned} == planned
        now = time.time()
        decision = reconcile(snapshot, now)
        proposal = place_awake_or_asleep(
            snapshot, decision.start, runtime_of, now, held=decision.held
        )
        assert [one.sentence for one in proposal.refused] == []
        for gang in proposal.placed:
            await store.commit_gang(gang)
        await laid(store)

    async def laid(store: Store) -> None:
        snapshot = await store.snapshot()
        models = [model for model in snapshot.models if model.name in planned]
        wanted = Counter(plan.slot for m in models for gang in expand(m) for plan in gang)
        workers = {
            one.id: one
            for one in snapshot.workers
            if one.plan.model in planned and one.phase is Phase.ASSIGNED
        }
        assert Counter(one.plan.slot for one in workers.values()) == wanted
        devices = {one.id: one for one in snapshot.devices}
        held = Counter(c.device_id for c in snapshot.claims if c.worker_id in workers)
        assert set(held.values()) == {1}, "whole devices"
        assert len(held) == sum(one.plan.devices for one in workers.values())
        for claim in snapshot.claims:
            if claim.worker_id in workers:
                wish = workers[claim.worker_id].plan.placement.device_model
                assert devices[claim.device_id].model == NAMES[wish]

    with served(tmp_path) as made:
        cli = Cli(made.url, tmp_path)
        registry(made, report)
        applied = cli("apply", "-f", str(PLANNED)).stdout
        assert applied.splitlines() == [f"model/{name} created (revision 1)" for name in planned]
        told = json.loads(cli("plan", "-o", "json").stdout)
        assert told["complete"] is True
        assert told["no_place"] == []
        registry(made, turn)
