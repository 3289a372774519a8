"""Looks at a running worker over HTTP: is it up, does it generate, what does it count."""

import asyncio

import httpx
import msgspec

from pipelines.engines import ENGINES
from pipelines.engines.base import EngineMetrics, ProtocolError
from registry.state import Worker

_PROMPT = "The capital of France is Paris, and the capital of Italy is Rome. " * 4
_GENERATION_TIMEOUT_S = 60.0
# On a loaded machine of few cores a KV read can stall for longer than its 30 s lease.
_TRANSFER_TIMEOUT_S = 150.0


class ProbeError(Exception):
    """The worker does not do its work (yet); the message says which step failed."""


def probe_client() -> httpx.AsyncClient:
    """A client for worker addresses: no proxies from the environment, no redirects."""
    return httpx.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(None, connect=2.0),  # each call has a deadline of its own
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=0),
    )


async def scrape(
    client: httpx.AsyncClient, worker: Worker, timeout_s: float = 2.0
) -> EngineMetrics:
    """The engine's own counts. Raises ProbeError."""
    response = await _call(client, worker, "GET", "/metrics", timeout_s=timeout_s)
    return ENGINES[worker.plan.engine].metrics(response.text)


async def check_health(client: httpx.AsyncClient, worker: Worker) -> None:
    """Raises ProbeError unless the engine's HTTP side says it is well."""
    path = ENGINES[worker.plan.engine].health_path
    await _call(client, worker, "GET", path, timeout_s=5.0)


async def check_generation(client: httpx.AsyncClient, worker: Worker) -> None:
    """One real token from the worker alone. Raises ProbeError."""
    await _call(client, worker, "POST", "/v1/completions", content=_encode(_request(worker)))


async def check_transfer(client: httpx.AsyncClient, prefill: Worker, decode: Worker) -> None:
    """One real generation over the pair whose KV transfer the decode engine itself counts.

    Raises ProbeError, also when the answer came but no KV moved: decode then recomputed it.
    """
    engine = ENGINES[decode.plan.engine]
    before = await scrape(client, decode)
    body = _request(prefill)
    answer = await _call(
        client, prefill, "POST", "/v1/completions", content=_encode(engine.prefill_body(body))
    )
    try:
        leg = engine.decode_body(body, answer.content)
    except ProtocolError as error:
        raise ProbeError(f"{prefill.id}: {error}") from None
    await _call(
        client,
        decode,
        "POST",
        "/v1/completions",
        content=_encode(leg),
        timeout_s=_TRANSFER_TIMEOUT_S,
    )
    for _ in range(20):  # the engine updates its counters a moment after the answer
        after = await scrape(client, decode)
        if after.kv_transfers > before.kv_transfers:
            return
        await asyncio.sleep(0.25)
    raise ProbeError(f"{decode.id} answered, but counted no KV transfer from {prefill.id}")


def _request(worker: Worker) -> dict[str, msgspec.Raw]:
    return {
        "model": msgspec.Raw(msgspec.json.encode(worker.plan.model)),
        "prompt": msgspec.Raw(msgspec.json.encode(_PROMPT)),
        "max_tokens": msgspec.Raw(b"2"),
        "temperature": msgspec.Raw(b"0"),
    }


def _encode(body: dict[str, msgspec.Raw]) -> bytes:
    return msgspec.json.encode(body)


async def _call(
    client: httpx.AsyncClient,
    worker: Worker,
    method: str,
    path: str,
    *,
    content: bytes | None = None,
    timeout_s: float = _GENERATION_TIMEOUT_S,
) -> httpx.Response:
    headers = {"authorization": f"Bearer {worker.token}", "content-type": "application/json"}
    try:
        async with asyncio.timeout(timeout_s):
            response = await client.request(
                method, worker.url + path, content=content, headers=headers
            )
    except (httpx.HTTPError, TimeoutError) as error:
        raise ProbeError(f"{worker.id} {path}: {type(error).__name__} {error}".strip()) from None
    if response.status_code != httpx.codes.OK:
        raise ProbeError(f"{worker.id} {path}: {response.status_code} {response.text[:200]}")
    return response
