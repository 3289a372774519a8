"""Several processes' metrics read as one gateway's."""

import asyncio
import functools

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from gateway.exposition import gathered, merged, published
from gateway.metrics import Asked, GatewayMetrics


def a_process(requests, table_version):
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    gauge = functools.partial(Asked, GaugeMetricFamily)
    metrics.watch(
        gauge("modelyard_in_flight_requests", "", ("worker",), lambda: [(("w",), requests)]),
        gauge("modelyard_workers", "", ("phase",), lambda: [(("ready",), requests)]),
        gauge("modelyard_worker_set_aside", "", ("worker",), lambda: [((f"w{requests}",), 1)]),
    )
    for _ in range(requests):
        served = metrics.served("m", "v", "aggregated")
        served.request("completions", "200")
        served.e2e.observe(0.02)
        metrics.retry("m", "v", "connect")
        metrics.legs("m", "v", "unified").started += 1
        metrics.pairs("m", "v").transfers += 1
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
    kind = 'mode="aggregated",model="m",operation="completions",status="200",variant="v"'
    assert found[f"modelyard_requests_total{{{kind}}}"] == 5
    assert found[f"modelyard_e2e_request_latency_seconds_count{{{labels}}}"] == 5
    le = f'modelyard_e2e_request_latency_seconds_bucket{{le="0.025",{labels}}}'
    assert found[le] == 5
    assert found['modelyard_in_flight_requests{worker="w"}'] == 5
    assert found['modelyard_retries_total{model="m",reason="connect",variant="v"}'] == 5
    leg = 'model="m",role="unified",variant="v"'
    assert found[f"modelyard_upstream_requests_total{{{leg}}}"] == 5
    assert found['modelyard_kv_transfers_total{model="m",variant="v"}'] == 5
    assert found["modelyard_routing_table_version"] == 7


def test_what_all_processes_see_of_one_thing_is_not_added_up():
    one, other = a_process(2, 7), a_process(3, 9)
    found = values(merged([prometheus_client.generate_latest(r) for r in (one, other)]))
    assert found['modelyard_workers{phase="ready"}'] == 3, "the newer table has one more"
    assert found['modelyard_worker_set_aside{worker="w2"}'] == 1
    assert found['modelyard_worker_set_aside{worker="w3"}'] == 1


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
