"""The routing table says what the registry says: who is ready, for whom, and why not."""

import msgspec
import pytest
from fleets import a_snapshot, a_worker
from gateway_world import AGGREGATED, DISAGGREGATED, a_declared, a_fleet, a_key, a_table
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import KeyRing
from gateway.errors import AuthenticationError
from gateway.routing.table import EMPTY_TABLE, build_table
from pipelines.topology import expand
from registry.keys import digest
from registry.spec import Locality
from registry.state import LIVE_PHASES, KeyKind, Phase

URL = "http://10.0.0.1:9000"


def the_variant(model, workers):
    (variant,) = a_table(models=[model], workers=workers).models[model.name].variants
    return variant


@given(phases=st.lists(st.sampled_from(sorted(LIVE_PHASES)), max_size=8))
def test_exactly_the_ready_workers_get_requests(phases):
    model = a_declared(topology={**AGGREGATED, "workers": 8})
    plans = [plan for gang in expand(model) for plan in gang]
    workers = [
        a_worker(plan, phase, id=f"w{number}", url=URL)
        for number, (plan, phase) in enumerate(zip(plans, phases, strict=False))
    ]
    table = build_table(a_snapshot(models=[model], workers=workers))
    ready = {worker.id for worker in workers if worker.phase is Phase.READY}
    assert table.worker_ids() == ready
    row = table.models["m"]
    assert bool(row.variants) == bool(ready)
    assert bool(row.reason) == (not ready)


@pytest.mark.parametrize(
    "url",
    ["", "http://", "https://h:1", "http://h", "http://h:x", "http://h:99999", "ftp://h:1", "h:1"],
)
def test_a_worker_without_a_usable_address_gets_none(url):
    model = a_declared()
    row = a_table(models=[model], workers=a_fleet(model, unified=[url])).models["m"]
    assert row.variants == ()


def test_a_token_that_could_not_be_a_header_gets_none():
    model = a_declared()
    (worker,) = a_fleet(model, unified=[URL])
    worker = msgspec.structs.replace(worker, token="a\r\nx-evil: 1")
    assert a_table(models=[model], workers=[worker]).models["m"].variants == ()


def test_an_ipv6_address_keeps_its_brackets_where_they_belong():
    model = a_declared()
    variant = the_variant(model, a_fleet(model, unified=["http://[::1]:80"]))
    assert (variant.unified[0].host, variant.unified[0].authority) == ("::1", "[::1]:80")


def test_a_deleted_model_is_gone_while_its_workers_stop():
    workers = a_fleet(a_declared(), unified=[URL])
    table = a_table(models=[a_declared(deleted=True)], workers=workers)
    assert table.models == {}
    assert table.worker_ids() == frozenset()


def test_only_inference_keys_that_are_not_revoked_are_known():
    keys = [
        a_key("mk-one-secret"),
        a_key("mk-two-secret", revoked_at=1.0),
        a_key("mka-three-secret", kind=KeyKind.ADMIN),
        a_key("mk-four-secret", expires_at=1.0),  # the clock is asked with each request
    ]
    table = a_table(models=[], keys=keys)
    assert list(table.keys.values()) == [keys[0], keys[3]]


def test_a_key_ring_ends_the_old_secret_in_its_time_even_where_it_remembers_it():
    key = a_key("mk-new-secret", old_digest=digest("mk-old-secret"), old_expires_at=50.0)
    ring = KeyRing(a_table(models=[], keys=[key]).keys)
    for now in (10.0, 49.9):
        assert ring.authenticate(b"Bearer mk-old-secret", now).id == key.id
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            ring.authenticate(b"Bearer mk-old-secret", 50.0)
    assert ring.authenticate(b"Bearer mk-new-secret", 1e9) == key


def test_a_key_sees_its_models_only():
    models = [a_declared("one"), a_declared("two")]
    table = a_table(models=models)
    limited, free = a_key(models=("two", "gone")), a_key()
    assert [row.name for row in table.models_of(limited)] == ["two"]
    assert [row.name for row in table.models_of(free)] == ["one", "two"]
    assert table.model("one", limited) is None
    assert table.model("gone", limited) is None
    assert table.model("one", free).name == "one"


@pytest.mark.parametrize(
    ("condition", "phases", "words"),
    [
        ("no node has 64GiB", [], "no node has 64GiB"),
        ("", [], "no worker is placed yet"),
        ("", [Phase.STARTING, Phase.STARTING], "2 unified starting"),
        ("", [Phase.DRAINING], "1 unified draining"),
    ],
)
def test_a_model_nobody_serves_has_a_reason(condition, phases, words):
    model = a_declared(condition=condition)
    (worker,) = a_fleet(model, unified=[URL])
    workers = [a_worker(worker.plan, phase, id=str(n)) for n, phase in enumerate(phases)]
    assert words in a_table(models=[model], workers=workers).models["m"].reason


@pytest.mark.parametrize(("role", "missing"), [("decode", "prefill"), ("prefill", "decode")])
def test_half_a_pair_serves_and_says_so(role, missing):
    model = a_declared(topology=DISAGGREGATED)
    row = a_table(models=[model], workers=a_fleet(model, **{role: [URL]})).models["m"]
    assert row.variants
    assert f"no {missing} worker" in row.reason


def test_partners_share_a_revision_where_they_can_and_a_kind_of_kv_always():
    model = a_declared(topology=DISAGGREGATED)
    prefill, decode = a_fleet(model, prefill=[URL], decode=[URL])

    def made(worker, name, revision, **change):
        plan = msgspec.structs.replace(worker.plan, revision=revision, **change)
        return msgspec.structs.replace(worker, id=name, plan=plan)

    workers = [
        made(prefill, "p1", 1),
        made(prefill, "p2", 2),
        made(prefill, "p2-other-weights", 2, source="file:///other"),
        made(decode, "d1", 1),
        made(decode, "d2", 2),
        made(decode, "d3", 3),
        made(decode, "d4", 4, source="file:///new"),
    ]
    partners = {
        decode: {endpoint.worker_id for endpoint in found}
        for decode, found in the_variant(model, workers).partners.items()
    }
    assert partners == {"d1": {"p1"}, "d2": {"p2"}, "d3": {"p1", "p2"}, "d4": set()}


@pytest.mark.parametrize(
    ("locality", "found"), [(Locality.PREFER, {"p1", "p2"}), (Locality.NODE, {"p1"})]
)
def test_a_pair_that_must_be_on_one_node_is_never_made_over_two(locality, found):
    model = a_declared(topology=DISAGGREGATED)
    prefill, decode = (
        msgspec.structs.replace(
            worker, plan=msgspec.structs.replace(worker.plan, locality=locality), node="a"
        )
        for worker in a_fleet(model, prefill=[URL], decode=[URL])
    )
    workers = [
        msgspec.structs.replace(prefill, id="p1"),
        msgspec.structs.replace(prefill, id="p2", node="b"),
        decode,
    ]
    partners = the_variant(model, workers).partners[decode.id]
    assert {endpoint.worker_id for endpoint in partners} == found


def test_a_table_shows_no_token():
    model = a_declared()
    assert "worker-token" not in repr(
        a_table(models=[model], workers=a_fleet(model, unified=[URL]))
    )
    assert EMPTY_TABLE.version == -1
