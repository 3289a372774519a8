"""Who leads, and what devices are in, over the admin API and the command line."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from admin_world import GIB, ME, served, world
from test_cli_commands import Cli

from registry.errors import UnavailableError
from registry.state import Device, DeviceKind, NodeReport, NodeState
from registry.store import Store

FOREIGN = "process 7 (python) of another program holds 3.2 GiB"
GREEDY = "its workers claim 4.0 GiB and use 5.0 GiB"


def in_store(folder: Path, work: Callable[[Store], Awaitable[object]]) -> None:
    """What another process does to the registry that the API in *folder* tells of."""

    async def run() -> None:
        store = await Store.open(f"sqlite+aiosqlite:///{folder / 'modelyard.db'}")
        try:
            await work(store)
        finally:
            await store.aclose()

    asyncio.run(run())


async def report_gpus(store: Store) -> None:
    """Three GPUs: one that another program uses, one whose workers use too much, one unused."""
    told = ({"quarantine": FOREIGN, "used_bytes": 3 * GIB}, {"overuse": GREEDY}, {})
    devices = tuple(
        Device(
            id=f"gpu-1/cuda{index}",
            node="gpu-1",
            index=index,
            kind=DeviceKind.CUDA,
            model="H100",
            memory_bytes=80 * GIB,
            island="0" if index < 2 else "",
            **told[index],
        )
        for index in range(3)
    )
    report = NodeReport(
        name="gpu-1",
        address="10.0.0.1",
        device_kind=DeviceKind.CUDA,
        runtimes=(),
        labels={},
        devices=devices,
    )
    await store.report_nodes((report,))


async def test_who_leads_is_told_until_its_lease_is_over(tmp_path: Path):
    async with world(tmp_path) as admin, admin.client() as client:

        async def told() -> list[dict[str, object]]:
            return (await client.get("/admin/v1/controllers")).json()["items"]

        assert await told() == []
        lease = await admin.store.acquire_lease("host-1", ttl_s=60)
        assert lease is not None
        (leader,) = await told()
        assert (leader["holder"], leader["epoch"]) == ("host-1", 1)
        assert 50 < leader["expires_in_s"] <= 60
        await admin.store.release_lease(lease)
        assert await told() == []


def test_the_command_line_tells_who_leads(tmp_path: Path):
    with served(tmp_path) as made:
        cli = Cli(made.url, tmp_path)
        nobody = cli("get", "controllers")
        assert (nobody.stdout, "no controller leads" in nobody.stderr) == ("", True)
        in_store(tmp_path, lambda store: store.acquire_lease("host-1", ttl_s=600))
        titles, row = cli("get", "controller").stdout.splitlines()
        assert titles.split() == ["CONTROLLER", "TERM", "EXPIRES"]
        assert row.split()[:3] == ["host-1", "1", "in"]


@pytest.mark.parametrize("words", [("describe", "node", "gpu-1"), ("get", "nodes")])
def test_a_devices_quarantine_overuse_and_use_are_plain_to_see(
    tmp_path: Path, words: tuple[str, ...]
):
    with served(tmp_path) as made:
        cli = Cli(made.url, tmp_path)
        in_store(tmp_path, report_gpus)
        shown = cli(*words)
    lines = [line for line in shown.stdout.splitlines() if "80.0 GiB" in line]
    foreign, greedy, unused = (line.partition("80.0 GiB")[2].split() for line in lines)
    assert foreign[:3] == ["quarantine", "3.0", "GiB"]
    assert greedy[:3] == unused[:3] == ["80.0", "GiB", "-"]
    assert f"gpu-1/cuda0: {FOREIGN}" in shown.output
    assert f"gpu-1/cuda1: {GREEDY}" in shown.output
    if words[0] == "describe":
        assert FOREIGN in shown.stdout
        islands = [line.split()[2] for line in lines]
        assert islands == ["0", "0", "-"]


def test_the_apis_json_has_all_of_a_device(tmp_path: Path):
    with served(tmp_path) as made:
        in_store(tmp_path, report_gpus)
        page = Cli(made.url, tmp_path)("describe", "node", "gpu-1", "-o", "json").stdout
    first, second, _ = json.loads(page)["node"]["devices"]
    assert (first["quarantine"], first["used_bytes"], first["island"]) == (FOREIGN, 3 * GIB, "0")
    assert second["overuse"] == GREEDY


async def test_a_scrape_tells_of_each_device_and_without_the_registry_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(tmp_path) as admin, admin.client() as client:
        await report_gpus(admin.store)
        lines = (await client.get("/metrics")).text.splitlines()
        sample = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

        def told(name: str, labels: str) -> float:
            return float(sample[f"modelyard_device_{name}{{{labels}}}"])

        assert told("memory_bytes", 'device="cuda0",node="gpu-1",of="total"') == 80 * GIB
        assert told("memory_bytes", 'device="cuda0",node="gpu-1",of="used"') == 3 * GIB
        assert told("memory_bytes", 'device="cpu0",node="local",of="claimed"') == 4 * GIB
        assert told("quarantined", 'device="cuda0",node="gpu-1"') == 1
        assert told("quarantined", 'device="cuda2",node="gpu-1"') == 0
        assert 'modelyard_device_memory_bytes{device="cpu0",node="local",of="used"}' not in sample

        async def away() -> None:
            raise UnavailableError("the registry is away")

        monkeypatch.setattr(admin.store, "snapshot", away)
        await admin.store.set_node_state("local", NodeState.CORDONED, by=ME)  # else none is read
        text = (await client.get("/metrics")).text
        assert "modelyard_seen_total" in text
        assert "modelyard_device" not in text
