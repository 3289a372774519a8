"""External workers in the routing table: their address, their name for the model, their pairs."""

import msgspec
import pytest
from fleets import a_snapshot, a_worker, disaggregated, external, unified, workers_of

from gateway.routing.table import build_table
from pipelines.engines.base import Pairing
from pipelines.topology import expand

TOKEN = "sk-theirs"


def the_row(model, workers):
    return build_table(a_snapshot(models=[model], workers=workers)).models[model.name]


def ready(model, **change):
    return [
        a_worker(
            plan, id=f"{plan.role}{plan.ordinal}", url=plan.external.url, token=TOKEN, **change
        )
        for (plan,) in expand(model)
    ]


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "authority"),
    [
        ("http://10.0.0.1:8000", "10.0.0.1", 8000, False, "10.0.0.1:8000"),
        ("http://pod.svc", "pod.svc", 80, False, "pod.svc"),
        ("https://api.example.org/", "api.example.org", 443, True, "api.example.org"),
        ("https://[2001:db8::1]:8443", "2001:db8::1", 8443, True, "[2001:db8::1]:8443"),
    ],
)
def test_an_endpoint_is_where_the_url_says(url, host, port, tls, authority):
    model = external("x", urls=[url])
    (endpoint,) = the_row(model, ready(model)).variants[0].unified
    assert (endpoint.host, endpoint.port, endpoint.tls) == (host, port, tls)
    assert endpoint.authority == authority
    assert (endpoint.model, endpoint.served_name) == ("x", "")


def test_it_carries_what_they_must_be_told():
    model = external(
        "x",
        prefill=[{"url": "http://p", "bootstrap_port": 8998}],
        decode=["http://d"],
        engine="sglang",
        served_name="theirs",
    )
    (row,) = the_row(model, ready(model, events_url="tcp://p:5557")).variants
    (prefill,), (decode,) = row.prefill, row.decode
    assert (prefill.bootstrap_port, decode.bootstrap_port) == (8998, 0)
    assert prefill.served_name == decode.served_name == "theirs"
    assert prefill.events_url == "tcp://p:5557"
    assert row.partners == {"decode0": (prefill,)}
    assert (row.disaggregated, row.pairing) == (True, Pairing.CONCURRENT)
    assert TOKEN not in repr(row)


@pytest.mark.parametrize(("engine", "serves"), [("vllm", True), ("sglang", False)])
@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_half_a_pair_serves_only_where_its_engine_can_answer_alone(engine, serves, role):
    meets = {"bootstrap_port": 1} if engine == "sglang" else {}
    model = external(
        "x", prefill=[{"url": "http://p", **meets}], decode=["http://d"], engine=engine
    )
    half = [worker for worker in ready(model) if worker.plan.role == role]
    row = the_row(model, half)
    assert bool(row.variants) == serves
    assert row.reason


def test_a_pair_of_ours_meets_at_the_port_that_its_prefill_worker_was_given():
    model = disaggregated("m", engine="sglang")
    ports = {"prefill": 21_001, "decode": 21_002}
    workers = [
        msgspec.structs.replace(worker, kv_port=ports[worker.plan.role])
        for worker in workers_of(model)
    ]
    (row,) = the_row(model, workers).variants
    (prefill,) = row.prefill
    assert (prefill.bootstrap_port, row.pairing) == (21_001, Pairing.CONCURRENT)


def test_bypass_counts_for_an_external_pair_too():
    pair = {"prefill": ["http://p"], "decode": ["http://d"]}
    model = external("x", **pair, bypass={"max_prompt_tokens": 7})
    assert the_row(model, ready(model)).variants[0].bypass_tokens == 7
    alone = external("y", urls=["http://a"])
    row = the_row(alone, ready(alone)).variants[0]
    assert (row.disaggregated, row.bypass_tokens) == (False, 0)


@pytest.mark.parametrize("url", ["https://h:1", "http://h"])
def test_a_worker_of_ours_is_reached_by_plain_http_and_by_a_port(url):
    model = unified("m")
    (worker,) = workers_of(model, url=url)
    assert the_row(model, [worker]).variants == ()


def test_a_key_that_no_header_can_hold_gets_no_requests():
    model = external("x", urls=["http://a"])
    (worker,) = ready(model)
    assert the_row(model, [msgspec.structs.replace(worker, token="a\nb")]).variants == ()
