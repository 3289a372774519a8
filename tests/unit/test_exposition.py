"""Several processes' metrics read as one gateway's."""

import asyncio

import prometheus_client
from prometheus_client import CollectorRegistry

from gateway.exposition import gathered, merged, published
from gateway.metrics import GatewayMetrics


def a_process(requests, table_version):
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    metrics.watch(
        in_flight=lambda: {"w": requests}, queued=dict, kv_events=lambda: {"applied": requests}
    )
    for _ in range(requests):
        served = metrics.served("m", "v", "aggregated")
        served.request("200")
        served.e2e.observe(0.02)
    metrics.table_version.set(table_version)
    return registry


def values(text):
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.decode().splitlines()
        if line and line[0] != "#"
    }


def test_counts_add_up_and_the_oldest_table_is_told():
    one, other = a_process(2, 7), a_process(3, 9)
    found = values(merged([prometheus_client.generate_latest(r) for r in (one, other)]))
    labels = 'mode="aggregated",model="m",variant="v"'
    assert (
        found['modelyard_requests_total{mode="aggregated",model="m",status="200",variant="v"}'] == 5
    )
    assert found[f"modelyard_e2e_request_latency_seconds_count{{{labels}}}"] == 5
    le = f'modelyard_e2e_request_latency_seconds_bucket{{le="0.025",{labels}}}'
    assert found[le] == 5
    assert found['modelyard_in_flight_requests{worker="w"}'] == 5
    assert found['modelyard_kv_events_total{kind="applied"}'] == 5
    assert found["modelyard_routing_table_version"] == 7


def test_one_process_reads_as_itself():
    text = prometheus_client.generate_latest(a_process(2, 7))
    assert values(merged([text])) == values(text)


async def test_a_process_that_is_away_is_left_out(tmp_path):
    here, away = tmp_path / "run" / "0.sock", tmp_path / "run" / "1.sock"
    async with published(a_process(2, 7), here):
        found = values(await gathered([here, away])())
        assert found['modelyard_in_flight_requests{worker="w"}'] == 2
    assert not here.exists()
    assert values(await gathered([here, away])()) == {}
    await asyncio.sleep(0)
