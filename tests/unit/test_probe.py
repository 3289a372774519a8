"""Probes believe a worker only what it did; no socket, the workers are functions."""

import asyncio
import json

import httpx
import msgspec
import pytest
from fleets import a_worker, disaggregated, external

from pipelines import probe
from pipelines.probe import ProbeError, check_generation, check_health, check_transfer, scrape
from pipelines.topology import expand
from registry.state import Phase

TOKEN = "sk-never-shown"
GOOD = {"choices": [{"text": "x"}]}
KV = {"do_remote_prefill": True}
MOVED = "vllm:nixl_xfer_time_seconds_count"


def workers_of(model, token=TOKEN):
    return [
        a_worker(
            plan,
            Phase.STARTING,
            id=f"{plan.role}-{plan.ordinal}",
            url=plan.external.url if plan.external else f"http://{plan.role}",
            token=token,
        )
        for gang in expand(model)
        for plan in gang
    ]


def a_client(*answers):
    """Answers by path, or by (host, path): a response, or what makes one of a request."""
    table = {}
    for each in answers:
        table.update(each)

    async def answer(request):
        key = (request.url.host, request.url.path)
        found = table.get(key, table.get(request.url.path, httpx.Response(404)))
        if callable(found):
            found = found(request)
            if asyncio.iscoroutine(found):
                found = await found
        return found

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def ok(data=GOOD):
    return httpx.Response(200, json=data)


def an_openai(**topology):
    (worker,) = workers_of(external("x", urls=["http://w"], engine="openai", **topology))
    return worker


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    sleep = asyncio.sleep
    monkeypatch.setattr(probe.asyncio, "sleep", lambda seconds: sleep(0))


# --- one worker


@pytest.mark.parametrize(
    ("status", "well"), [(200, True), (404, True), (405, True), (401, False), (503, False)]
)
async def test_without_a_health_route_a_list_of_models_tells_that_it_is_up(status, well):
    client = a_client({"/v1/models": httpx.Response(status)})
    if well:
        await check_health(client, an_openai())
    else:
        with pytest.raises(ProbeError, match=str(status)):
            await check_health(client, an_openai())


async def test_an_external_worker_that_takes_our_key_no_more_is_not_well():
    (theirs,) = workers_of(external("x", urls=["http://w"], engine="vllm"))
    client = a_client({"/health": ok(), "/v1/models": httpx.Response(401)})
    with pytest.raises(ProbeError, match="/v1/models: 401"):
        await check_health(client, theirs)
    ours, _ = workers_of(disaggregated("m", engine="vllm"))
    await check_health(client, ours)


@pytest.mark.parametrize(("served", "asked"), [("", "x"), ("theirs", "theirs")])
async def test_it_is_asked_by_the_name_it_knows_and_with_its_key(served, asked):
    seen = []
    client = a_client({"/v1/chat/completions": lambda request: seen.append(request) or ok()})
    await check_generation(client, an_openai(served_name=served))
    (request,) = seen
    assert json.loads(request.content)["model"] == asked
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


async def test_without_a_key_none_is_sent():
    seen = []
    client = a_client({"/v1/completions": lambda request: seen.append(request) or ok()})
    (worker,) = workers_of(external("x", urls=["http://w"], engine="vllm"), token="")
    await check_generation(client, worker)
    assert "authorization" not in seen[0].headers


async def test_where_there_is_no_chat_completions_will_do():
    await check_generation(a_client({"/v1/completions": ok()}), an_openai())


async def test_a_failing_chat_is_not_papered_over():
    client = a_client({"/v1/chat/completions": httpx.Response(500), "/v1/completions": ok()})
    with pytest.raises(ProbeError, match="500"):
        await check_generation(client, an_openai())


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>welcome</html>"),
        ok({}),
        ok({"choices": []}),
        httpx.Response(302, headers={"location": "http://else"}),
    ],
)
async def test_an_answer_that_generates_nothing_is_none(answer):
    (worker,) = workers_of(external("x", urls=["http://w"], engine="vllm"))
    with pytest.raises(ProbeError):
        await check_generation(a_client({"/v1/completions": answer}), worker)


async def test_a_refused_key_that_is_repeated_to_us_goes_no_further():
    text = "x" * 190 + TOKEN  # and not its beginning either, where the message is cut
    client = a_client({"/v1/chat/completions": httpx.Response(401, text=text)})
    with pytest.raises(ProbeError) as refused:
        await check_generation(client, an_openai())
    assert TOKEN[:6] not in str(refused.value)


async def test_an_engine_without_metrics_is_not_asked_for_any():
    with pytest.raises(ProbeError, match="has no metrics"):
        await scrape(a_client({"/metrics": httpx.Response(200, text="")}), an_openai())


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_half_an_sglang_pair_is_not_asked_to_generate_alone(role):
    pair = external(
        "x",
        prefill=[{"url": "http://p", "bootstrap_port": 9}],
        decode=["http://d"],
        engine="sglang",
    )
    (worker,) = [each for each in workers_of(pair) if each.plan.role == role]
    await check_generation(a_client(), worker)  # which answers everything with 404


# --- pairs that are asked in turn


class Counting:
    """A vLLM pair: *moves* is what each decode adds to its count."""

    def __init__(self, moves=1, text=f"{MOVED} {{}}\nvllm:prompt_tokens_total 9"):
        self.moves, self.text, self.moved = moves, text, 0

    def table(self):
        return {
            ("prefill", "/v1/completions"): ok({**GOOD, "kv_transfer_params": KV}),
            ("decode", "/v1/completions"): self.decode,
            ("decode", "/metrics"): lambda _: httpx.Response(200, text=self.metrics()),
        }

    def decode(self, request):
        assert json.loads(request.content)["kv_transfer_params"] == KV
        self.moved += self.moves
        return ok()

    def metrics(self):
        return self.text.format(self.moved)


def pairs():
    ours = workers_of(disaggregated("m", engine="vllm"))
    theirs = workers_of(
        external("x", prefill=["http://prefill"], decode=["http://decode"], engine="vllm")
    )
    return {"ours": ours, "external": theirs}


@pytest.mark.parametrize("pair", ["ours", "external"])
async def test_a_counted_transfer_is_believed(pair):
    assert await check_transfer(a_client(Counting().table()), *pairs()[pair]) == ""


@pytest.mark.parametrize("pair", ["ours", "external"])
async def test_an_answer_without_a_counted_transfer_is_not(pair):
    with pytest.raises(ProbeError, match="counted no KV transfer from"):
        await check_transfer(a_client(Counting(moves=0).table()), *pairs()[pair])


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (httpx.Response(404), "shows no metrics"),
        (httpx.Response(401), "shows no metrics"),
        (httpx.Response(200, text="nginx_requests 7"), "not those of vllm"),
    ],
)
async def test_an_external_pair_that_cannot_be_counted_serves_and_says_so(metrics, words):
    table = {**Counting().table(), ("decode", "/metrics"): metrics}
    assert words in await check_transfer(a_client(table), *pairs()["external"])
    with pytest.raises(ProbeError):
        await check_transfer(a_client(table), *pairs()["ours"])


async def test_metrics_that_only_fail_today_are_waited_for():
    table = {**Counting().table(), ("decode", "/metrics"): httpx.Response(503)}
    with pytest.raises(ProbeError, match="503"):
        await check_transfer(a_client(table), *pairs()["external"])


# --- pairs that are asked at once


class Room:
    """An SGLang pair: neither side answers before the other has come."""

    def __init__(self):
        self.bodies, self.full = [], asyncio.Event()

    async def meet(self, request):
        self.bodies.append(json.loads(request.content))
        if len(self.bodies) == 2:
            self.full.set()
        async with asyncio.timeout(5):
            await self.full.wait()
        return ok()


def an_sglang_pair():
    return workers_of(
        external(
            "x",
            prefill=[{"url": "http://p.example:1", "bootstrap_port": 8998}],
            decode=["http://d.example:1"],
            engine="sglang",
            served_name="theirs",
        )
    )


async def test_both_sglang_workers_get_one_body_at_once_and_a_new_room_each_time():
    rooms = []
    for _ in range(2):
        room = Room()
        client = a_client({"/v1/completions": room.meet})
        assert await check_transfer(client, *an_sglang_pair()) == ""
        first, second = room.bodies
        assert first == second
        assert (first["bootstrap_host"], first["bootstrap_port"]) == ("p.example", 8998)
        assert first["model"] == "theirs"
        assert 0 <= first["bootstrap_room"] < 2**63
        rooms.append(first["bootstrap_room"])
    assert rooms[0] != rooms[1]


SGLANG_MOVED = "sglang:kv_transfer_latency_ms_count"


@pytest.mark.parametrize("moves", [1, 0])
async def test_of_an_sglang_pair_of_ours_prefill_counts_the_transfer(moves):
    prefill, decode = (
        msgspec.structs.replace(worker, url=f"http://{worker.plan.role}.example:1", kv_port=21_001)
        for worker in workers_of(disaggregated("m", engine="sglang"))
    )
    room = Room()

    def metrics(_):
        return httpx.Response(200, text=f"{SGLANG_MOVED} {moves * len(room.bodies)}")

    table = {"/v1/completions": room.meet, ("prefill.example", "/metrics"): metrics}
    if moves:
        assert await check_transfer(a_client(table), prefill, decode) == ""
    else:
        with pytest.raises(ProbeError, match=f"{prefill.id} counted no KV transfer"):
            await check_transfer(a_client(table), prefill, decode)
    assert [body["bootstrap_port"] for body in room.bodies] == [21_001] * 2


@pytest.mark.parametrize(
    ("fails", "waits"), [("p.example", "d.example"), ("d.example", "p.example")]
)
async def test_when_one_sglang_leg_fails_the_other_is_let_go(fails, waits):
    cancelled = asyncio.Event()

    async def wait(request):
        try:
            await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def fail(request):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return httpx.Response(500, text="no such room")

    client = a_client({(waits, "/v1/completions"): wait, (fails, "/v1/completions"): fail})
    async with asyncio.timeout(5):
        with pytest.raises(ProbeError, match="no such room"):
            await check_transfer(client, *an_sglang_pair())
    assert cancelled.is_set()
