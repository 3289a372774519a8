"""Models that embed or rerank: what a spec may say, and how it reaches the engine."""

import json

import httpx
import msgspec
import pytest
from fleets import a_model, a_worker, disaggregated, external, unified
from test_engine_vllm import CPU

from pipelines.engines import ENGINES
from pipelines.engines.base import TASK_OPERATIONS
from pipelines.engines.vllm import VllmEngine
from pipelines.probe import ProbeError, check_generation
from pipelines.topology import expand
from registry.engine_args import refused_name
from registry.errors import SpecError
from registry.spec import Role, Routing, RoutingPolicy, Task, from_data
from registry.state import Phase

WITHOUT_TOKENS = (Task.EMBED, Task.RERANK)
PAIRS = [
    {"type": "disaggregated", "prefill": {}, "decode": {}},
    {"type": "external", "prefill": [{"url": "http://a"}], "decode": [{"url": "http://b"}]},
]


def of_task(model, task):
    return msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, task=task))


def a_spec(topology, **more):
    variants = [
        {"name": "good", "engine": "emulator", "topology": {"type": "aggregated"}},
        {"name": "bad", "engine": "emulator", "topology": topology},
    ]
    return {"name": "m", "source": "file:///m", "variants": variants, **more}


@pytest.mark.parametrize("task", WITHOUT_TOKENS)
@pytest.mark.parametrize("topology", PAIRS, ids=lambda topology: topology["type"])
def test_what_gives_no_tokens_cannot_be_disaggregated(task, topology):
    with pytest.raises(SpecError, match=r"no decode phase.* bad must be aggregated") as refused:
        from_data(a_spec(topology, task=task))
    assert refused.value.field == "task"
    from_data(a_spec(topology, task="generate"))


@pytest.mark.parametrize("task", WITHOUT_TOKENS)
def test_what_gives_no_tokens_tells_of_no_kv_cache(task):
    spec = a_spec({"type": "aggregated"}, task=task, routing={"policy": "kv_events"})
    with pytest.raises(SpecError, match="least_loaded") as refused:
        from_data(spec)
    assert refused.value.field == "routing.policy"


@pytest.mark.parametrize("task", WITHOUT_TOKENS)
def test_an_engine_that_is_not_started_for_it_serves_it_only_elsewhere(task):
    spec = a_spec({"type": "aggregated"}, task=task)
    spec["variants"][1]["engine"] = "sglang"
    with pytest.raises(SpecError, match=r"sglang is not started for: variant bad") as refused:
        from_data(spec)
    assert refused.value.field == "task"
    spec["variants"][1]["topology"] = {"type": "external", "workers": [{"url": "http://a"}]}
    from_data(spec)


def test_an_unknown_task_is_refused_with_those_that_exist():
    with pytest.raises(SpecError, match=r"generate.*embed.*rerank"):
        from_data(a_spec({"type": "aggregated"}, task="classify"))


def fingerprints(model):
    return [plan.fingerprint for gang in expand(model) for plan in gang]


def test_the_task_reaches_the_plan_and_a_new_one_needs_new_workers():
    for model in (unified("m"), external("x", urls=["http://a"])):
        plans = {task: expand(of_task(model, task))[0][0] for task in Task}
        assert {task: plan.task for task, plan in plans.items()} == {task: task for task in Task}
        assert len({plan.fingerprint for plan in plans.values()}) == len(Task)


def test_workers_that_an_earlier_release_started_are_kept():
    """These are its fingerprints: were they others, an upgrade would replace every worker."""
    kv_events = unified("m")
    routing = Routing(policy=RoutingPolicy.KV_EVENTS)
    spec = msgspec.structs.replace(kv_events.spec, routing=routing)
    assert fingerprints(unified("m")) == ["23d915d468764290"]
    assert fingerprints(msgspec.structs.replace(kv_events, spec=spec)) == ["9510b357b32a5c43"]
    assert fingerprints(disaggregated("pd")) == ["b57bbfa591d88e6e", "b57bbfa591d88e6e"]
    assert fingerprints(external("x", urls=["http://a"])) == ["d0ca51cc543ad1ea"]


def argv(task):
    return VllmEngine().command(msgspec.structs.replace(CPU, task=task)).argv


def test_vllm_pools_for_them_and_generates_for_the_others():
    for task in WITHOUT_TOKENS:
        words = argv(task)
        assert words[words.index("--runner") + 1] == "pooling"
    assert "--runner" not in argv(Task.GENERATE)


def test_the_task_is_not_given_twice():
    assert refused_name("runner")
    assert refused_name("task")


def test_an_engine_answers_every_operation_of_some_task_and_pairs_only_what_makes_tokens():
    known = frozenset().union(*TASK_OPERATIONS.values())
    for engine in ENGINES.values():
        assert engine.operations <= known
        assert engine.paired_operations <= engine.operations & TASK_OPERATIONS[Task.GENERATE]
        assert bool(engine.paired_operations) == (engine.pairing != "none")
        assert not engine.paired_operations & TASK_OPERATIONS[Task.EMBED]


# --- probes


def a_worker_of(task):
    model = of_task(a_model("m", {"type": "aggregated"}), task)
    return a_worker(expand(model)[0][0], Phase.STARTING, url="http://w", token="t")


def a_client(path, answer):
    seen = []

    def handle(request):
        seen.append(request)
        found = request.url.path == path
        return httpx.Response(200, content=answer) if found else httpx.Response(404)

    return httpx.AsyncClient(transport=httpx.MockTransport(handle)), seen


VECTOR = {"data": [{"embedding": [0.0, 0.5]}]}
RANKING = {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": -1}]}


async def test_an_embedder_is_ready_once_it_has_embedded():
    client, seen = a_client("/v1/embeddings", json.dumps(VECTOR))
    await check_generation(client, a_worker_of(Task.EMBED))
    (request,) = seen
    assert json.loads(request.content)["model"] == "m"
    assert request.headers["authorization"] == "Bearer t"


async def test_a_reranker_is_ready_once_it_has_ranked():
    client, seen = a_client("/v1/rerank", json.dumps(RANKING))
    await check_generation(client, a_worker_of(Task.RERANK))
    assert len(json.loads(seen[0].content)["documents"]) == 2


@pytest.mark.parametrize(
    ("task", "path", "answer"),
    [
        (Task.EMBED, "/v1/embeddings", "<html>"),
        (Task.EMBED, "/v1/embeddings", "{}"),
        (Task.EMBED, "/v1/embeddings", '{"data": []}'),
        (Task.EMBED, "/v1/embeddings", '{"data": [{"embedding": []}]}'),
        (Task.EMBED, "/v1/embeddings", '{"data": [{"embedding": [0.0, 0]}]}'),
        (Task.EMBED, "/v1/embeddings", '{"data": [{"embedding": [null, null]}]}'),
        (Task.EMBED, "/v1/completions", '{"choices": [{"text": "x"}]}'),
        (Task.RERANK, "/v1/rerank", '{"results": []}'),
        (Task.RERANK, "/v1/rerank", '{"results": [{"index": 0}, {"index": 1}]}'),
        (Task.RERANK, "/v1/embeddings", json.dumps(VECTOR)),
    ],
)
async def test_what_does_not_do_its_task_is_not_ready(task, path, answer):
    client, _ = a_client(path, answer)
    with pytest.raises(ProbeError):
        await check_generation(client, a_worker_of(task))


def test_a_role_other_than_unified_has_no_other_task():
    for task in WITHOUT_TOKENS:
        (gang,) = expand(of_task(unified("m"), task))
        assert [plan.role for plan in gang] == [Role.UNIFIED]
